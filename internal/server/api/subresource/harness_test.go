package subresource

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/api/expand"
	"virtctl/internal/server/api/routes"
	"virtctl/internal/server/serving"
)

// agent is a node agent that writes down what it is asked.
type agent struct {
	asked  []string
	answer string
	err    error
	dial   func() (*websocket.Conn, error)
}

func (a *agent) Put(_ context.Context, vmi *v1.VirtualMachineInstance, verb string, body []byte) error {
	a.asked = append(a.asked, verb+" "+vmi.Name+" "+string(body))
	return a.err
}

func (a *agent) Get(_ context.Context, _ *v1.VirtualMachineInstance, verb string) (*http.Response, error) {
	a.asked = append(a.asked, verb)
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(a.answer))}, nil
}

func (a *agent) Dial(_ context.Context, _ *v1.VirtualMachineInstance, verb string, query url.Values) (*websocket.Conn, error) {
	a.asked = append(a.asked, verb+"?"+query.Encode())
	if a.err != nil {
		return nil, a.err
	}
	return a.dial()
}

func (a *agent) Resume(context.Context, *v1.VirtualMachineInstance, string, string) (*websocket.Conn, error) {
	return nil, errors.New("nothing was handed over")
}

type sessions struct{ open []string }

func (s *sessions) Open(kind, namespace, name string) func() {
	s.open = append(s.open, kind+" "+namespace+"/"+name)
	return func() {}
}

type harness struct {
	*Server
	node     *agent
	sessions *sessions
}

// setUp makes a server over objects written in YAML, separated by lines of dashes.
func setUp(t *testing.T, gates []string, objects ...string) *harness {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	builder := crfake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1.VirtualMachine{}).
		WithInterceptorFuncs(interceptor.Funcs{Patch: realPatch, SubResourcePatch: realStatusPatch})
	for _, o := range objects {
		meta := metav1.TypeMeta{}
		if err := yaml.Unmarshal([]byte(o), &meta); err != nil {
			t.Fatal(err)
		}
		made, err := scheme.New(meta.GroupVersionKind())
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict([]byte(o), made); err != nil {
			t.Fatal(err)
		}
		builder = builder.WithObjects(made.(client.Object))
	}
	kv := &v1.KubeVirt{}
	kv.Spec.Configuration.DeveloperConfiguration = &v1.DeveloperConfiguration{}
	for _, g := range gates {
		if off, found := strings.CutPrefix(g, "-"); found {
			kv.Spec.Configuration.DeveloperConfiguration.DisabledFeatureGates = append(kv.Spec.Configuration.DeveloperConfiguration.DisabledFeatureGates, off)
		} else {
			kv.Spec.Configuration.DeveloperConfiguration.FeatureGates = append(kv.Spec.Configuration.DeveloperConfiguration.FeatureGates, g)
		}
	}
	c := builder.Build()
	h := &harness{node: &agent{}, sessions: &sessions{}}
	h.Server = &Server{
		Client: c, KubeVirts: c, Config: clusterconfig.Fixed(kv), Node: h.node, Expander: expand.Literal{}, Streams: serving.NewTracker(),
		Sessions: h.sessions, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Healthy: func(context.Context) (string, error) { return "v1.36.3", nil },
	}
	return h
}

// realPatch answers a failed test in a patch as the API server does; the fake answers otherwise.
func realPatch(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	return asServer(c.Patch(ctx, o, p, opts...))
}

func realStatusPatch(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
	return asServer(c.SubResource(sub).Patch(ctx, o, p, opts...))
}

func asServer(err error) error {
	if err == nil || apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
		return err
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Code: 422, Reason: metav1.StatusReasonInvalid, Message: jsonPatchRejected, Details: &metav1.StatusDetails{},
	}}
}

type answer struct {
	code int
	body string
	// message is that of a Status.
	message string
}

func (h *harness) do(t *testing.T, handler routes.Handler, path map[string]string, query, body string) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodPut, "/?"+query, strings.NewReader(body))
	r.SetPathValue("namespace", "ns")
	r.SetPathValue("name", "vm")
	for k, v := range path {
		r.SetPathValue(k, v)
	}
	w := httptest.NewRecorder()
	h.Handlers()[handler].ServeHTTP(w, r)
	status := metav1.Status{}
	if w.Code >= 400 {
		if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil || status.Kind != "Status" || int(status.Code) != w.Code {
			t.Errorf("%d is no Status: %s", w.Code, w.Body)
		}
	}
	return answer{w.Code, w.Body.String(), status.Message}
}

func (h *harness) readVM(t *testing.T) *v1.VirtualMachine {
	t.Helper()
	vm := &v1.VirtualMachine{}
	if err := h.Client.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "vm"}, vm); err != nil {
		t.Fatal(err)
	}
	return vm
}

func (h *harness) readVMI(t *testing.T) *v1.VirtualMachineInstance {
	t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	if err := h.Client.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "vm"}, vmi); err != nil {
		t.Fatal(err)
	}
	return vmi
}

// aVM and aVMI are objects in YAML.
func aVM(strategy, status string) string {
	return "{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: vm, namespace: ns, uid: vm-uid}, " +
		"spec: {runStrategy: " + strategy + ", template: {spec: {domain: {devices: {}}}}}, status: {" + status + "}}"
}

func aVMI(phase, spec, status string) string {
	if status != "" {
		status = ", " + status
	}
	return "{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {name: vm, namespace: ns, uid: vmi-uid}, " +
		"spec: {terminationGracePeriodSeconds: 30, domain: {devices: {}}" + spec + "}, status: {phase: " + phase + ", nodeName: n1" + status + "}}"
}

func condition(kind string) string { return "conditions: [{type: " + kind + ", status: 'True'}]" }
