package storage

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
)

// fakeBackend remembers what was done to volumes.
type fakeBackend struct {
	sizes   map[string]int64
	mounted bool
}

func (f *fakeBackend) Device(name string) string { return "/dev/" + name }

func (f *fakeBackend) Create(_ context.Context, name string, request int64, _ bool) (int64, error) {
	f.sizes[name] = request
	return request, nil
}

func (f *fakeBackend) Grow(name string, request int64, _ bool) (int64, error) {
	f.sizes[name] = request
	return request, nil
}

func (f *fakeBackend) GrowFilesystem(context.Context, string) error {
	if f.mounted {
		return errMounted
	}
	return nil
}

func (f *fakeBackend) Remove(name string) error {
	delete(f.sizes, name)
	return nil
}

type world struct {
	*Provisioner
	client  *fake.Clientset
	backend *fakeBackend
	events  *record.FakeRecorder
}

// newWorld is a provisioner over a fake API server with these objects and the two classes.
func newWorld(t *testing.T, objects ...runtime.Object) world {
	t.Helper()
	for _, c := range Classes() {
		objects = append(objects, c)
	}
	client := fake.NewClientset(objects...)
	w := world{client: client, backend: &fakeBackend{sizes: map[string]int64{}}, events: record.NewFakeRecorder(10)}
	w.Provisioner = NewProvisioner(client, w.backend, "node01", false)
	w.Provisioner.events = w.events
	factory := informers.NewSharedInformerFactory(client, 0)
	w.claims = factory.Core().V1().PersistentVolumeClaims().Lister()
	w.pvs = factory.Core().V1().PersistentVolumes().Lister()
	w.classes = factory.Storage().V1().StorageClasses().Lister()
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	return w
}

func claim(class string, modes ...corev1.PersistentVolumeAccessMode) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "ns", UID: "u1", Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: modes,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

// A claim gets a volume on the right nodes, or its user learns why not.
func TestProvision(t *testing.T) {
	rwo, rwx := corev1.ReadWriteOnce, corev1.ReadWriteMany
	block := corev1.PersistentVolumeBlock
	for _, tc := range []struct {
		name  string
		claim func() *corev1.PersistentVolumeClaim
		node  string
		event string
	}{
		{"local waits", func() *corev1.PersistentVolumeClaim { return claim("local", rwo) }, "", ""},
		{"local", func() *corev1.PersistentVolumeClaim {
			c := claim("local", rwo)
			c.Annotations[annotationSelectedNode] = "node02"
			return c
		}, "node02", "ProvisioningSucceeded"},
		{"shared block", func() *corev1.PersistentVolumeClaim {
			c := claim("shared", rwx)
			c.Spec.VolumeMode = &block
			return c
		}, "linux", "ProvisioningSucceeded"},
		{"local cannot be shared", func() *corev1.PersistentVolumeClaim { return claim("local", rwx) }, "", "use class shared"},
		{"data source", func() *corev1.PersistentVolumeClaim {
			c := claim("shared", rwo)
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "x"}
			return c
		}, "", "data source"},
		{"somebody else's class", func() *corev1.PersistentVolumeClaim { return claim("other", rwo) }, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, tc.claim())
			if err := w.reconcile(t.Context(), "claim/ns/c"); err != nil {
				t.Fatal(err)
			}
			event := ""
			if len(w.events.Events) > 0 {
				event = <-w.events.Events
			}
			if (event == "") != (tc.event == "") || !strings.Contains(event, tc.event) {
				t.Errorf("event %q, want %q", event, tc.event)
			}
			pvs, err := w.client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if tc.node == "" {
				if len(pvs.Items) != 0 || len(w.backend.sizes) != 0 {
					t.Errorf("made %v", w.backend.sizes)
				}
				return
			}
			pv := pvs.Items[0]
			if got := pv.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0]; got != tc.node {
				t.Errorf("volume is for %s, want %s", got, tc.node)
			}
			if pv.Spec.Local.Path != "/dev/pvc-u1" || w.backend.sizes["pvc-u1"] != 1<<30 || pv.Spec.ClaimRef.UID != "u1" {
				t.Errorf("volume %+v", pv.Spec)
			}
		})
	}
}

func bound(size string, mode corev1.PersistentVolumeMode) (*corev1.PersistentVolumeClaim, *corev1.PersistentVolume) {
	c := claim("shared", corev1.ReadWriteOnce)
	c.Spec.VolumeMode, c.Spec.VolumeName = &mode, "pvc-u1"
	c.Status.Phase = corev1.ClaimBound
	c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
	pv := newVolume(c, Classes()[1], nil, "/dev/pvc-u1", 1<<20)
	pv.Status.Phase = corev1.VolumeBound
	return c, pv
}

// A larger request makes a larger volume; a mounted file system says what it waits for.
func TestExpand(t *testing.T) {
	for _, tc := range []struct {
		name    string
		mode    corev1.PersistentVolumeMode
		mounted bool
		want    string
	}{
		{"block", corev1.PersistentVolumeBlock, true, "1Gi"},
		{"file system", corev1.PersistentVolumeFilesystem, false, "1Gi"},
		{"mounted file system", corev1.PersistentVolumeFilesystem, true, "1Mi"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, pv := bound("1Mi", tc.mode)
			w := newWorld(t, c, pv)
			w.backend.mounted = tc.mounted
			if err := w.reconcile(t.Context(), "claim/ns/c"); err != nil {
				t.Fatal(err)
			}
			got, err := w.client.CoreV1().PersistentVolumeClaims("ns").Get(t.Context(), "c", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if size := got.Status.Capacity[corev1.ResourceStorage]; size.String() != tc.want {
				t.Errorf("size %s, want %s", size.String(), tc.want)
			}
			if waits := len(got.Status.Conditions) == 1; waits != (tc.want == "1Mi") {
				t.Errorf("conditions %v", got.Status.Conditions)
			}
		})
	}
}

// A volume with reclaim policy Delete frees its space when its claim is gone; any other stays.
func TestReclaim(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(*corev1.PersistentVolume)
		gone bool
	}{
		{"released", func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeReleased }, true},
		{"bound", func(*corev1.PersistentVolume) {}, false},
		{"retained", func(pv *corev1.PersistentVolume) {
			pv.Status.Phase = corev1.VolumeReleased
			pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		}, false},
		{"not ours", func(pv *corev1.PersistentVolume) {
			pv.Status.Phase = corev1.VolumeReleased
			pv.Annotations[annotationProvisionedBy] = "other"
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, pv := bound("1Mi", corev1.PersistentVolumeBlock)
			tc.set(pv)
			w := newWorld(t, pv)
			w.backend.sizes["pvc-u1"] = 1
			if err := w.reconcile(t.Context(), "volume/pvc-u1"); err != nil {
				t.Fatal(err)
			}
			pvs, err := w.client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if gone := len(pvs.Items) == 0 && len(w.backend.sizes) == 0; gone != tc.gone {
				t.Errorf("gone: %v, want %v", gone, tc.gone)
			}
		})
	}
}
