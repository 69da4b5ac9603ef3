package workerpod

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/cdi/names"
)

// golden compares with testdata, or writes it when UPDATE is set.
func golden(t *testing.T, name string, obj any) {
	t.Helper()
	got, err := yaml.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".yaml")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run UPDATE=1 go test", err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs:\n%s", name, got)
	}
}

func target(name string, annotations map[string]string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: "lab", Name: name, UID: "claim-uid", Annotations: annotations, Labels: map[string]string{"team": "a"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(&metav1.ObjectMeta{Name: name, UID: "dv-uid"}, cdi.SchemeGroupVersion.WithKind("DataVolume"))},
	}}
	class := "local"
	c.Spec.StorageClassName = &class
	c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	return c
}

func block(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	mode := corev1.PersistentVolumeBlock
	c.Spec.VolumeMode = &mode
	return c
}

func settings() *Settings {
	return &Settings{Image: "localhost/virtctl/virt-launcher:v1", PullPolicy: corev1.PullIfNotPresent, Resources: DefaultResources(), Overhead: "0.06"}
}

// Other programs and the workers read these objects: every change of them is seen in review.
func TestImporters(t *testing.T) {
	golden(t, "import-http", Importer(target("root", map[string]string{
		names.AnnSource: names.SourceHTTP, names.AnnEndpoint: "https://example.com/x.qcow2", names.AnnSecret: "login", names.AnnCertConfigMap: "ca",
		names.AnnChecksum: "sha256:00", names.AnnExtraHeaders + ".0": "X-A: b", names.AnnSecretExtraHeaders + ".0": "hidden",
		names.AnnPreallocationRequest: "true", names.AnnPriorityClassName: "high", names.AnnPodNetwork: "lab/net",
	}), "", settings()))
	golden(t, "import-blank-block", Importer(block(target("empty", map[string]string{names.AnnSource: names.SourceNone})), "", settings()))
	odd := settings()
	odd.Proxy = Proxy{HTTP: "http://proxy:3128", HTTPS: "http://proxy:3128", No: ".svc", Bundle: "import-proxy-cm-disk"}
	odd.Pull = []corev1.LocalObjectReference{{Name: "pull"}}
	odd.Placement.NodeSelector = map[string]string{"disk": "fast"}
	odd.InsecureRegistries = []string{"registry:5000"}
	golden(t, "import-registry-scratch", Importer(target("disk", map[string]string{
		names.AnnSource: names.SourceRegistry, names.AnnEndpoint: "docker://registry:5000/disks/a:1", names.AnnRequiresDirectIO: "true",
	}), "disk-scratch", odd))
	golden(t, "import-registry-node", Importer(target("disk", map[string]string{
		names.AnnSource: names.SourceRegistry, names.AnnEndpoint: "docker://quay.io/disks/a:1", names.AnnRegistryImportMethod: string(cdi.RegistryPullNode),
		names.AnnRegistryArchitecture: "arm64", names.AnnSecret: "pull",
	}), "", settings()))
	golden(t, "import-gcs", Importer(target("cloud", map[string]string{
		names.AnnSource: names.SourceGCS, names.AnnEndpoint: "gs://bucket/x", names.AnnSecret: "key", names.AnnContentType: string(cdi.DataVolumeArchive),
	}), "", settings()))
	golden(t, "import-checkpoint", Importer(target("warm", map[string]string{
		names.AnnSource: names.SourceImageio, names.AnnEndpoint: "https://engine", names.AnnDiskID: "7", names.AnnInsecureSkipVerify: "true",
		names.AnnCheckpointCurrent: "two", names.AnnCheckpointPrevious: "one", names.AnnCheckpointFinal: "false",
	}), "", settings()))
}

func TestUploadServers(t *testing.T) {
	u := Upload{Secret: "cdi-upload-up-abcde", Client: names.UploadClientName, Deadline: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	c := target("up", map[string]string{names.AnnUploadRequest: ""})
	pod := UploadServer(c, u, settings())
	golden(t, "upload", pod)
	pod.UID = "pod-uid"
	golden(t, "upload-service", UploadService(c))
	golden(t, "upload-secret", UploadSecret(pod, u.Secret, []byte("CERT"), []byte("KEY"), []byte("CA")))
	tls := settings()
	tls.TLS = TLS{Ciphers: "A,B", MinVersion: "VersionTLS12"}
	u.Scratch = "up-scratch"
	golden(t, "upload-block-scratch", UploadServer(block(target("up", nil)), u, tls))
	class := "local"
	golden(t, "scratch", Scratch(c, pod, &class, resource.MustParse("100Mi")))
}

func TestCloneSources(t *testing.T) {
	source := target("golden", nil)
	source.Namespace = "images"
	pod := CloneSource(source, target("copy", nil), "secret", []byte("CA"), settings())
	golden(t, "clone-source", pod)
	pod.UID = "pod-uid"
	golden(t, "clone-secret", CloneSecret(pod, "secret", []byte("CERT"), []byte("KEY")))
	golden(t, "clone-source-block", CloneSource(block(target("golden", nil)), block(target("copy", nil)), "secret", []byte("CA"), settings()))
}

// Whatever a claim asks for, its worker is one that Pod Security "restricted" admits, with no token and nothing to write but its
// volumes.
func TestWorkersAreRestricted(t *testing.T) {
	for _, pod := range []*corev1.Pod{
		Importer(target("a", map[string]string{names.AnnSource: names.SourceHTTP}), "s", settings()),
		UploadServer(target("a", nil), Upload{}, settings()),
		CloneSource(target("a", nil), target("b", nil), "s", nil, settings()),
	} {
		s, c := pod.Spec.SecurityContext, pod.Spec.Containers[0].SecurityContext
		if !*s.RunAsNonRoot || *s.RunAsUser != 107 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || *pod.Spec.AutomountServiceAccountToken {
			t.Errorf("%s: %+v", pod.Name, s)
		}
		if *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || len(c.Capabilities.Drop) != 1 || c.Capabilities.Drop[0] != "ALL" || c.Privileged != nil {
			t.Errorf("%s: %+v", pod.Name, c)
		}
	}
}
