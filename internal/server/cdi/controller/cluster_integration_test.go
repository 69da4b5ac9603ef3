//go:build integration

package controller

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/certificates"
	"virtctl/internal/crds"
	components "virtctl/internal/install/components/cdi"
	"virtctl/internal/server/cdi/controller/snapshot"
	"virtctl/internal/server/leading"
	"virtctl/test/controlplane"
)

// cluster is a real API server with etcd. The test plays scheduler, kubelet and the volumes' controller.
type cluster struct {
	t     *testing.T
	c     client.WithWatch
	plane *controlplane.ControlPlane
	key   []byte

	images images
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	definitions := append(controlplane.Definitions(t, crds.Storage, crds.CDI), snapshotDefinition("VolumeSnapshot", apiextensionsv1.NamespaceScoped),
		snapshotDefinition("VolumeSnapshotClass", apiextensionsv1.ClusterScoped), snapshotDefinition("VolumeSnapshotContent", apiextensionsv1.ClusterScoped))
	plane := controlplane.Start(t, definitions)
	cl := &cluster{t: t, plane: plane}
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if cl.c, err = client.NewWithWatch(plane.As("test"), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	cl.namespace("kubevirt", nil)
	cl.namespace("lab", map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	cl.namespace("golden", nil)
	for _, obj := range components.Accounts(components.Options{Namespace: "kubevirt"}) {
		cl.create(obj.(client.Object))
	}
	cl.installation()
	cl.endPods()
	return cl
}

// snapshotDefinition is a kind of the snapshot controller, as far as we look at it.
func snapshotDefinition(kind string, scope apiextensionsv1.ResourceScope) *apiextensionsv1.CustomResourceDefinition {
	yes, plural := true, strings.ToLower(kind)+"s"
	if strings.HasSuffix(kind, "Class") {
		plural = strings.ToLower(kind) + "es"
	}
	d := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{
		Name: plural + ".snapshot.storage.k8s.io", Annotations: map[string]string{"api-approved.kubernetes.io": "unapproved, for a test"},
	}}
	d.Spec.Group, d.Spec.Scope = "snapshot.storage.k8s.io", scope
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Kind: kind, ListKind: kind + "List", Plural: plural, Singular: strings.ToLower(kind)}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{
		Name: "v1", Served: true, Storage: true, Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
		Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &yes}},
	}}
	return d
}

// installation is what cdi-operator and the administrator leave behind.
func (cl *cluster) installation() {
	late := storagev1.VolumeBindingWaitForFirstConsumer
	expand := true
	cl.create(&storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "local", Annotations: map[string]string{names.AnnDefaultClass: "true"}},
		Provisioner: "virtctl.io/local", VolumeBindingMode: &late, AllowVolumeExpansion: &expand,
	})
	cl.create(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "odd"}, Provisioner: "example.com/odd"})
	cl.create(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "array"}, Provisioner: "csi.example.com", AllowVolumeExpansion: &expand})
	cl.create(&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "csi.example.com"}})
	snapshots := snapshot.NewClass()
	snapshots.SetName("array-snapshots")
	snapshots.Object["driver"], snapshots.Object["deletionPolicy"] = "csi.example.com", "Delete"
	cl.create(snapshots)
	cl.create(&cdi.CDIConfig{ObjectMeta: metav1.ObjectMeta{Name: names.CDIConfig}})
	private, public, err := token.NewKey()
	if err != nil {
		cl.t.Fatal(err)
	}
	cl.key = private
	cl.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kubevirt", Name: names.SecretSigningKey},
		Data:       map[string][]byte{names.SigningKeyPrivate: private, names.SigningKeyPublic: public},
	})
	for secret, bundle := range map[string]string{
		names.SecretUploadSigner: names.BundleUpload, names.SecretUploadClientSigner: names.BundleUploadClient,
	} {
		signer, err := certificates.NewAuthority(secret, time.Now(), 30*24*time.Hour)
		if err != nil {
			cl.t.Fatal(err)
		}
		cl.create(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kubevirt", Name: secret}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{corev1.TLSCertKey: signer.Cert, corev1.TLSPrivateKeyKey: signer.Key},
		})
		cl.create(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kubevirt", Name: bundle}, Data: map[string]string{names.BundleKey: string(signer.Cert)},
		})
	}
}

func (cl *cluster) create(obj client.Object) {
	cl.t.Helper()
	if err := cl.c.Create(context.Background(), obj); err != nil {
		cl.t.Fatalf("create %T %s: %v", obj, obj.GetName(), err)
	}
}

func (cl *cluster) namespace(name string, labels map[string]string) {
	cl.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	cl.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}})
}

// startControllers runs one replica with no more rights than an installation gives it.
func (cl *cluster) startControllers() (stop func()) {
	cl.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := NewManager(ctx, cl.plane.Account("kubevirt", "cdi-sa"), Flags{WorkerImage: "localhost/virtctl/virt-launcher:test", PullPolicy: "IfNotPresent", Namespace: "kubevirt", Replica: &leading.Replica{Lease: component, Namespace: "kubevirt", Name: "cdi-deployment-a"}, Digest: cl.images.ask})
	if err != nil {
		cl.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				cl.t.Error(err)
			}
		})
	}
	cl.t.Cleanup(stop)
	return stop
}

// await watches until an object of the list's kind satisfies the condition.
func await[T client.Object](cl *cluster, list client.ObjectList, namespace, name, what string, ok func(T) bool) T {
	cl.t.Helper()
	return controlplane.Await(cl.t, controlplane.Watching{Client: cl.c, List: list, Namespace: namespace, Name: name}, what, ok)
}

// awaitGone watches until an object is gone.
func (cl *cluster) awaitGone(list client.ObjectList, obj client.Object) {
	cl.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := cl.c.Watch(ctx, list, client.InNamespace(obj.GetNamespace()), client.MatchingFields{"metadata.name": obj.GetName()})
	if err != nil {
		cl.t.Fatal(err)
	}
	defer w.Stop()
	for {
		if err := cl.c.Get(ctx, client.ObjectKeyFromObject(obj), obj); client.IgnoreNotFound(err) == nil && err != nil {
			return
		}
		for e := range w.ResultChan() {
			if e.Type == watch.Deleted {
				return
			}
		}
		if ctx.Err() != nil {
			cl.t.Fatalf("%T %s stays", obj, obj.GetName())
		}
	}
}

func (cl *cluster) awaitPhase(namespace, name string, phase cdi.DataVolumePhase) *cdi.DataVolume {
	cl.t.Helper()
	return await(cl, &cdi.DataVolumeList{}, namespace, name, "phase "+string(phase), func(dv *cdi.DataVolume) bool { return dv.Status.Phase == phase })
}

func (cl *cluster) awaitPod(namespace, name string) *corev1.Pod {
	cl.t.Helper()
	return await(cl, &corev1.PodList{}, namespace, name, "existence", func(p *corev1.Pod) bool { return p.DeletionTimestamp == nil })
}

func (cl *cluster) claim(namespace, name string) *corev1.PersistentVolumeClaim {
	cl.t.Helper()
	return await(cl, &corev1.PersistentVolumeClaimList{}, namespace, name, "existence", func(*corev1.PersistentVolumeClaim) bool { return true })
}

// bind does what the volumes' controller does.
func (cl *cluster) bind(namespace, name string) {
	cl.t.Helper()
	c := cl.claim(namespace, name)
	before := c.DeepCopy()
	if c.Spec.VolumeName == "" {
		c.Spec.VolumeName = "pv-" + string(c.UID)
	}
	if err := cl.c.Patch(context.Background(), c, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
	before = c.DeepCopy()
	c.Status.Phase = corev1.ClaimBound
	c.Status.Capacity = c.Spec.Resources.Requests
	if err := cl.c.Status().Patch(context.Background(), c, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
}

// schedule does what the scheduler does: only then kubelet knows of a pod.
func (cl *cluster) schedule(pod *corev1.Pod) {
	cl.t.Helper()
	if pod.Spec.NodeName != "" {
		return
	}
	binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
	if err := cl.c.SubResource("binding").Create(context.Background(), pod, binding); err != nil {
		cl.t.Fatal(err)
	}
	pod.Spec.NodeName = "n1"
}

// endPods does what kubelet does with pods that are to go: the API server keeps them until their containers have ended.
func (cl *cluster) endPods() {
	t, ended := cl.t, make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	w, err := cl.c.Watch(ctx, &corev1.PodList{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		for e := range w.ResultChan() {
			pod, is := e.Object.(*corev1.Pod)
			if !is || e.Type == watch.Deleted || pod.DeletionTimestamp == nil {
				continue
			}
			// A pod that is to go may be changed once more: by the second event it is gone, or another has its name.
			err := cl.c.Delete(ctx, pod, client.GracePeriodSeconds(0), client.Preconditions{UID: &pod.UID})
			if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) && ctx.Err() == nil {
				t.Errorf("end pod %s: %v", pod.Name, err)
			}
		}
	}()
	t.Cleanup(func() { stop(); w.Stop(); <-ended })
}

// kubelet writes a pod's status.
func (cl *cluster) kubelet(pod *corev1.Pod, phase corev1.PodPhase, state corev1.ContainerState, restarts int32) {
	cl.t.Helper()
	cl.kubeletStatus(pod, phase, corev1.ContainerStatus{State: state, RestartCount: restarts, Ready: state.Running != nil})
}

func (cl *cluster) kubeletStatus(pod *corev1.Pod, phase corev1.PodPhase, s corev1.ContainerStatus) {
	cl.t.Helper()
	cl.schedule(pod)
	before := pod.DeepCopy()
	pod.Status.Phase = phase
	started := s.State.Running != nil
	s.Name, s.Image, s.Started = pod.Spec.Containers[0].Name, pod.Spec.Containers[0].Image, &started
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{s}
	if err := cl.c.Status().Patch(context.Background(), pod, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
}

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
}

func ended(code int32, reason string, m names.TerminationMessage) corev1.ContainerState {
	text, err := m.Encode()
	if err != nil {
		panic(err)
	}
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: string(text)}}
}

func (cl *cluster) awaitRenewals(count int) {
	cl.t.Helper()
	controlplane.AwaitRenewals(cl.t, cl.c, "kubevirt", count)
}

func (cl *cluster) writes() []controlplane.Request { return cl.plane.Writes(component) }

// judge fails the test for requests that were refused or came to nothing.
func (cl *cluster) judge() {
	cl.t.Helper()
	seen := map[controlplane.Request]bool{}
	for _, r := range cl.plane.Requests(component) {
		if r.Namespace != "full" && (r.Code == "403" || r.Code == "422" || r.Code == "400") && !seen[r] {
			seen[r] = true
			cl.t.Errorf("refused: %+v", r)
		}
	}
}
