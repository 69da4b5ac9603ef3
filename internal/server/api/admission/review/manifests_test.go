package review

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/expand"
)

func testServer(t testing.TB, objects ...client.Object) *Server {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	kv := &v1.KubeVirt{}
	kv.Status.DefaultArchitecture = "amd64"
	return &Server{
		Client: crfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(),
		Config: clusterconfig.Fixed(kv), Namespace: "kubevirt", Expander: expand.Literal{},
	}
}

// ask sends a review through the HTTP handler.
func ask(t testing.TB, s *Server, h admission.Handler, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	t.Helper()
	request.UID = "12345"
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.Handlers()[h].ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body))))
	review := admissionv1.AdmissionReview{}
	if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil || review.Response == nil {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if review.Response.UID != "12345" || review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" {
		t.Errorf("answer is no AdmissionReview of the request: %s", w.Body)
	}
	return review.Response
}

func createRequest(raw []byte, username string) *admissionv1.AdmissionRequest {
	return &admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Namespace: "default", Object: runtime.RawExtension{Raw: raw},
		UserInfo: authenticationv1.UserInfo{Username: username},
	}
}

// admit runs an object through a mutating and a validating webhook, as the API server does.
func admit(t testing.TB, s *Server, mutate, validate admission.Handler, raw []byte, username string) ([]byte, *admissionv1.AdmissionResponse) {
	t.Helper()
	if mutate != "" {
		answer := ask(t, s, mutate, createRequest(raw, username))
		if !answer.Allowed {
			return nil, answer
		}
		if len(answer.Patch) > 0 {
			p, err := jsonpatch.DecodePatch(answer.Patch)
			if err != nil {
				t.Fatal(err)
			}
			if raw, err = p.Apply(raw); err != nil {
				t.Fatalf("%v: %s", err, answer.Patch)
			}
		}
	}
	return raw, ask(t, s, validate, createRequest(raw, username))
}

const controllerUser = "system:serviceaccount:kubevirt:kubevirt-controller"

// Manifests that people have written for KubeVirt are taken as they are, and so are the instances made of them.
func TestManifestsAreAccepted(t *testing.T) {
	files, err := filepath.Glob("testdata/manifests/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%v: %d manifests", err, len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := yaml.YAMLToJSON(data)
			if err != nil {
				t.Fatal(err)
			}
			meta := metav1.TypeMeta{}
			if err := json.Unmarshal(raw, &meta); err != nil {
				t.Fatal(err)
			}
			s := testServer(t)
			switch meta.Kind {
			case "VirtualMachine":
				accepted, answer := admit(t, s, admission.MutateVM, admission.ValidateVM, raw, "alice")
				if !answer.Allowed {
					t.Fatalf("refused: %s", answer.Result.Message)
				}
				instance(t, s, accepted)
				again(t, s, admission.MutateVM, accepted)
			case "VirtualMachineInstance":
				if _, answer := admit(t, s, admission.MutateVMI, admission.ValidateVMICreate, raw, "alice"); !answer.Allowed {
					t.Fatalf("refused: %s", answer.Result.Message)
				}
			case "VirtualMachineInstanceReplicaSet":
				if _, answer := admit(t, s, "", admission.ValidateReplicaSet, raw, "alice"); !answer.Allowed {
					t.Fatalf("refused: %s", answer.Result.Message)
				}
			default:
				t.Fatalf("kind %q", meta.Kind)
			}
		})
	}
}

// instance makes a VMI of an accepted VM, as the controller does. Without instance types that needs a size.
func instance(t *testing.T, s *Server, accepted []byte) {
	t.Helper()
	vm := &v1.VirtualMachine{}
	if err := json.Unmarshal(accepted, vm); err != nil {
		t.Fatal(err)
	}
	vmi := &v1.VirtualMachineInstance{
		TypeMeta:   metav1.TypeMeta{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachineInstance"},
		ObjectMeta: metav1.ObjectMeta{Name: vm.Name, Namespace: "default"}, Spec: vm.Spec.Template.Spec,
	}
	if vm.Spec.Instancetype != nil {
		vmi.Spec.Domain.Memory = &v1.Memory{Guest: quantity("1Gi")}
	}
	raw, err := json.Marshal(vmi)
	if err != nil {
		t.Fatal(err)
	}
	completed, answer := admit(t, s, admission.MutateVMI, admission.ValidateVMICreate, raw, controllerUser)
	if !answer.Allowed {
		t.Fatalf("its instance is refused: %s", answer.Result.Message)
	}
	if err := json.Unmarshal(completed, vmi); err != nil {
		t.Fatal(err)
	}
	if vmi.Status.Phase != v1.Pending || vmi.Status.RuntimeUser != 107 || len(vmi.Finalizers) != 1 ||
		vmi.Spec.Domain.Firmware.UUID != vm.Spec.Template.Spec.Domain.Firmware.UUID {
		t.Errorf("instance %+v", vmi.Status)
	}
}

// again mutates what was mutated: kubectl apply of the same file must change nothing.
func again(t *testing.T, s *Server, mutate admission.Handler, raw []byte) {
	t.Helper()
	request := createRequest(raw, "alice")
	request.Operation, request.OldObject = admissionv1.Update, runtime.RawExtension{Raw: raw}
	if answer := ask(t, s, mutate, request); !answer.Allowed || len(answer.Patch) > 0 {
		t.Errorf("not settled: %s", answer.Patch)
	}
}
