package review

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"virtctl/internal/cdi/connect"
	"virtctl/internal/cdi/names"
)

// server is one in front of a cluster with objects; may says what access reviews answer.
func server(t testing.TB, may func(authorizationv1.SubjectAccessReviewSpec) bool, objects ...client.Object) *Server {
	t.Helper()
	scheme, err := connect.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c := crfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
			review := obj.(*authorizationv1.SubjectAccessReview)
			review.Status.Allowed = may != nil && may(review.Spec)
			return nil
		},
	}).Build()
	return &Server{Client: c, Sign: func(source, target Object) (string, error) {
		return source.Resource.Resource + ":" + source.Namespace + "/" + source.Name + ">" + target.Namespace + "/" + target.Name, nil
	}}
}

func raw(t testing.TB, text string) runtime.RawExtension {
	t.Helper()
	if text == "" {
		return runtime.RawExtension{}
	}
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return runtime.RawExtension{Raw: data}
}

func judged(t testing.TB, s *Server, path string, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	t.Helper()
	r.UID = "u"
	if r.Operation == "" {
		r.Operation = admissionv1.Create
	}
	if r.Namespace == "" {
		r.Namespace = "lab"
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: r})
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	s.Handlers()[path].ServeHTTP(answer, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
	review := admissionv1.AdmissionReview{}
	if err := json.Unmarshal(answer.Body.Bytes(), &review); err != nil || review.Response == nil || review.Response.UID != "u" {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	return review.Response
}

func said(r *admissionv1.AdmissionResponse) string {
	if r.Allowed {
		return "allowed"
	}
	return r.Result.Message
}

const (
	storage = "storage: {resources: {requests: {storage: 1Gi}}}"
	pvc     = "pvc: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}"
	blank   = "source: {blank: {}}"
)

func dv(spec string) string { return "{metadata: {name: d, namespace: lab}, spec: {" + spec + "}}" }

// Every refusal in the contract's own words: people search for them, and programs compare them.
func TestDataVolumes(t *testing.T) {
	s := server(t, nil)
	size := func(q string) string { return "storage: {resources: {requests: {storage: " + q + "}}}, " + blank }
	modes := func(m string) string {
		return "pvc: {accessModes: [" + m + "], resources: {requests: {storage: 1Gi}}}, " + blank
	}
	source := func(text string) string { return storage + ", source: {" + text + "}" }
	for spec, want := range map[string]string{
		storage + ", " + blank:  "allowed",
		pvc + ", " + blank:      "allowed",
		blank:                   "Missing Data volume PVC",
		storage + ", " + pvc:    "Duplicate storage definition, both target storage and target pvc defined",
		"storage: {}, " + blank: "Storage size is missing",
		"pvc: {accessModes: [ReadWriteOnce]}, " + blank: "PVC size is missing",
		size("0"):                            "Storage size can't be equal or less than zero",
		size("1k"):                           "Storage size should be at least 1MiB",
		modes(""):                            "Required value: at least 1 access mode is required",
		modes("ReadWriteOnce, ReadOnlyMany"): "PVC multiple accessModes",
		modes("Never"):                       `Unsupported value: "Never": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`,
		storage:                              "Data volume should have either Source or SourceRef, or be externally populated",
		source(""):                           "Missing Data volume source",
		source("blank: {}, upload: {}"):      "Multiple Data volume sources",
		source("upload: {}"):                 "allowed",
		storage + ", contentType: tape, " + blank:                                                       "ContentType not one of: kubevirt, archive",
		storage + ", contentType: archive, " + blank:                                                    "SourceType cannot be blank and the contentType be archive",
		storage + `, contentType: archive, source: {registry: {url: "docker://x"}}`:                     "ContentType must be kubevirt when Source is Registry",
		source("registry: {}"):                                                                          "Source registry should have either URL or ImageStream",
		source(`registry: {url: "http://x"}`):                                                           "Illegal registry source URL scheme http://x",
		source(`registry: {url: "docker://x", pullMethod: post}`):                                       `ImportMethod post is neither pod, node or ""`,
		source("registry: {imageStream: x}"):                                                            "Source registry ImageStream is supported only with node pull import method",
		source(`registry: {url: "docker://x"}`):                                                         "allowed",
		source(`http: {url: ""}`):                                                                       "spec.source source URL is empty",
		source(`http: {url: "x y"}`):                                                                    "spec.source Invalid source URL: x y",
		source(`http: {url: "file:///etc/passwd"}`):                                                     "spec.source Invalid source URL scheme: file:///etc/passwd",
		source(`http: {url: "http://x", checksum: "sha256:12"}`):                                        "Invalid checksum format: invalid sha256 hash length: expected 64 hex characters, got 2",
		source(`http: {url: "http://x", checksum: "crc:12"}`):                                           "Invalid checksum format: unsupported hash algorithm 'crc': supported algorithms are: md5, sha1, sha256, sha512",
		source(`http: {url: "http://x", checksum: "md5:0123456789abcdef0123456789abcdef"}`):             "allowed",
		source(`s3: {url: "ftp://x"}`):                                                                  "spec.source Invalid source URL scheme: ftp://x",
		source(`gcs: {url: "gs://x"}`):                                                                  "allowed",
		source(`imageio: {url: "http://x", diskId: a}`):                                                 "spec.source.Imageio source Imageio is not valid",
		source(`imageio: {url: "http://x", diskId: a, secretRef: b}`):                                   "spec.source.Imageio source Imageio requires CertConfigMap or InsecureSkipVerify",
		source(`vddk: {url: "http://x"}`):                                                               "spec.source.VDDK source VDDK is not valid",
		source("pvc: {name: a}"):                                                                        "spec.source.PVC source PVC is not valid",
		source("snapshot: {name: a}"):                                                                   "spec.source.Snapshot source snapshot is not valid",
		"storage: {}, source: {pvc: {namespace: a, name: b}}":                                           "allowed",
		storage + ", sourceRef: {kind: '', name: a}":                                                    "Missing sourceRef kind",
		storage + ", sourceRef: {kind: Pod, name: a}":                                                   "Unsupported sourceRef kind Pod, currently only DataSource is supported",
		storage + ", sourceRef: {kind: DataSource, name: ''}":                                           "Missing sourceRef name",
		"storage: {resources: {requests: {storage: 1Gi}}, dataSource: {kind: VolumeSnapshot, name: a}}": "Required value: DataSource apiGroup when kind is not 'PersistentVolumeClaim'",
		"storage: {resources: {requests: {storage: 1Gi}}, dataSourceRef: {apiGroup: g, kind: K, name: a, namespace: other}}": "Invalid value: DataSourceRef namespace not supported",
		"storage: {resources: {requests: {storage: 1Gi}}, dataSourceRef: {apiGroup: g, kind: K, name: a}}, " + blank:         "External population is incompatible with Source and SourceRef",
		"storage: {resources: {requests: {storage: 1Gi}}, dataSourceRef: {apiGroup: g, kind: K, name: a}}":                   "allowed",
	} {
		answer := judged(t, s, "/datavolume-validate", &admissionv1.AdmissionRequest{Object: raw(t, dv(spec))})
		if said(answer) != want {
			t.Errorf("%s\n got %s\nwant %s", spec, said(answer), want)
		}
		if !answer.Allowed && answer.Result.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: code %d", spec, answer.Result.Code)
		}
	}
	long := "{metadata: {name: " + strings.Repeat("a", 254) + "}, spec: {" + storage + ", " + blank + "}}"
	if got := said(judged(t, s, "/datavolume-validate", &admissionv1.AdmissionRequest{Object: raw(t, long)})); got != "Name cannot be longer than 253 characters" {
		t.Error(got)
	}
}

func TestDataVolumeUpdates(t *testing.T) {
	s := server(t, nil)
	vddk := storage + `, source: {vddk: {url: "http://x", secretRef: a, uuid: b, backingFile: c, thumbprint: d}}`
	for _, tc := range []struct{ old, now, want string }{
		{storage + ", " + blank, storage + ", " + blank, "allowed"},
		{storage + ", " + blank, pvc + ", " + blank, "Cannot update DataVolume Spec"},
		{vddk, vddk + ", checkpoints: [{current: a, previous: ''}]", "allowed"},
		{storage + ", " + blank, storage + ", " + blank + ", checkpoints: [{current: a, previous: ''}]", "Cannot update DataVolume Spec"},
	} {
		r := &admissionv1.AdmissionRequest{Operation: admissionv1.Update, Object: raw(t, dv(tc.now)), OldObject: raw(t, dv(tc.old))}
		if got := said(judged(t, s, "/datavolume-validate", r)); got != tc.want {
			t.Errorf("%s -> %s: %s", tc.old, tc.now, got)
		}
	}
}

// A claim with data in it is never taken over by accident.
func TestDataVolumesLeaveClaimsAlone(t *testing.T) {
	yes := true
	claim := func(notes map[string]string, owner string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "lab", Annotations: notes}}
		if owner != "" {
			c.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Name: "x", Controller: &yes}}
		}
		return c
	}
	gate := &cdiv1.CDIConfig{ObjectMeta: metav1.ObjectMeta{Name: names.CDIConfig}, Spec: cdiv1.CDIConfigSpec{FeatureGates: []string{gateClaimAdoption}}}
	const taken = "Destination PVC lab/d already exists"
	for name, tc := range map[string]struct {
		objects []client.Object
		notes   string
		want    string
	}{
		"somebody's":          {[]client.Object{claim(nil, "")}, "", taken},
		"a StatefulSet's":     {[]client.Object{claim(nil, "StatefulSet")}, "", taken},
		"a DataVolume's":      {[]client.Object{claim(nil, "DataVolume")}, "", "allowed"},
		"populated for it":    {[]client.Object{claim(map[string]string{names.AnnPopulatedFor: "d"}, "")}, "", "allowed"},
		"adoption wished":     {[]client.Object{claim(nil, "")}, names.AnnAllowClaimAdoption + `: "true"`, "allowed"},
		"adoption not wished": {[]client.Object{claim(nil, ""), gate}, names.AnnAllowClaimAdoption + `: "false"`, taken},
		"adoption by gate":    {[]client.Object{claim(nil, ""), gate}, "", "allowed"},
	} {
		object := "{metadata: {name: d, namespace: lab, annotations: {" + tc.notes + "}}, spec: {" + storage + ", " + blank + "}}"
		if got := said(judged(t, server(t, nil, tc.objects...), "/datavolume-validate", &admissionv1.AdmissionRequest{Object: raw(t, object)})); got != tc.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The token says that the creator may read the source; whoever gets one without the permission reads other people's disks.
func TestClones(t *testing.T) {
	other := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}}
	lab := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "lab"}}
	source := &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Name: "boot", Namespace: "other"}, Spec: cdiv1.DataSourceSpec{
		Source: cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "other", Name: "golden"}},
	}}
	empty := &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Name: "empty", Namespace: "lab"}}
	anyone := func(authorizationv1.SubjectAccessReviewSpec) bool { return true }
	sourcer := func(r authorizationv1.SubjectAccessReviewSpec) bool {
		a := r.ResourceAttributes
		return r.User == "ann" && a.Namespace == "other" && a.Resource == "datavolumes" && a.Subresource == "source" && a.Verb == "create"
	}
	const refused = "User ann has insufficient permissions in clone source namespace other"
	for _, tc := range []struct {
		name, spec string
		may        func(authorizationv1.SubjectAccessReviewSpec) bool
		want       string
	}{
		{"no clone", storage + ", " + blank, nil, "allowed"},
		{"in one's own namespace", storage + ", source: {pvc: {name: a, namespace: lab}}", nil, "persistentvolumeclaims:lab/a>lab/d"},
		{"from another without permission", storage + ", source: {pvc: {name: a, namespace: other}}", nil, refused},
		{"from another with permission", storage + ", source: {pvc: {name: a, namespace: other}}", sourcer, "persistentvolumeclaims:other/a>lab/d"},
		{"a snapshot without permission", storage + ", source: {snapshot: {name: a, namespace: other}}", nil, refused},
		{"a snapshot with permission", storage + ", source: {snapshot: {name: a, namespace: other}}", anyone, "volumesnapshots:other/a>lab/d"},
		{"a DataSource without permission", storage + ", sourceRef: {kind: DataSource, name: boot, namespace: other}", nil, refused},
		{"a DataSource with permission", storage + ", sourceRef: {kind: DataSource, name: boot, namespace: other}", sourcer, "persistentvolumeclaims:other/golden>lab/d"},
		{"an empty DataSource", storage + ", sourceRef: {kind: DataSource, name: empty}", anyone, "Empty source field in 'empty'. DataSource may not be ready yet"},
		{"a namespace that is not there", storage + ", source: {pvc: {name: a, namespace: none}}", anyone, `namespaces "none" not found`},
	} {
		r := &admissionv1.AdmissionRequest{Object: raw(t, dv(tc.spec)), Name: "d"}
		r.UserInfo.Username = "ann"
		answer := judged(t, server(t, tc.may, other, lab, source, empty), "/datavolume-mutate", r)
		got := said(answer)
		if answer.Allowed && len(answer.Patch) > 0 {
			var operations []struct {
				Path  string
				Value map[string]string
			}
			if err := json.Unmarshal(answer.Patch, &operations); err != nil || len(operations) != 1 || operations[0].Path != "/metadata/annotations" {
				t.Fatalf("%s: %s", tc.name, answer.Patch)
			}
			got = operations[0].Value[names.AnnCloneToken]
		}
		if got != tc.want {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
}

func FuzzReview(f *testing.F) {
	for _, spec := range []string{storage + ", " + blank, pvc, `source: {http: {url: "http://x"}}`} {
		f.Add([]byte(dv(spec)))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		data, err := yaml.YAMLToJSON(object)
		if err != nil {
			return // only JSON reaches a webhook
		}
		s := server(t, nil)
		for path := range s.Handlers() {
			for _, operation := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update, admissionv1.Delete} {
				r := &admissionv1.AdmissionRequest{Operation: operation, Object: runtime.RawExtension{Raw: data}, OldObject: runtime.RawExtension{Raw: data}}
				r.Resource.Resource = "volumeimportsources"
				judged(t, s, path, r)
			}
		}
	})
}
