//go:build integration

package controller

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/crds"
	components "virtctl/internal/install/components/cdi"
	"virtctl/internal/server/cdi/controller/snapshot"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.NewKlogr())
	os.Exit(m.Run())
}

// cluster is a real API server with etcd. The test plays scheduler, kubelet and the volumes' controller.
type cluster struct {
	t      *testing.T
	config *rest.Config
	c      client.WithWatch
	audit  string
	key    []byte

	images images
}

// binary is a script that runs one of virt-kube's servers: envtest wants a program of its own for each.
func binary(t *testing.T, name string) string {
	t.Helper()
	kube := os.Getenv("VIRT_KUBE")
	if kube == "" {
		kube, _ = filepath.Abs("../../../../bin/virt-kube")
	}
	if _, err := os.Stat(kube); err != nil {
		t.Fatalf("no virt-kube: %v; run `make virt-kube`, or set VIRT_KUBE", err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec "+kube+" "+name+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	cl := &cluster{t: t, audit: filepath.Join(t.TempDir(), "audit.log")}
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	rules := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n"
	if err := os.WriteFile(policy, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	definitions, err := crds.Storage()
	if err != nil {
		t.Fatal(err)
	}
	own, err := crds.CDI()
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*apiextensionsv1.CustomResourceDefinition
	for _, d := range append(definitions, own) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(d.Object, crd); err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, crd)
	}
	parsed = append(parsed, snapshotDefinition("VolumeSnapshot", apiextensionsv1.NamespaceScoped),
		snapshotDefinition("VolumeSnapshotClass", apiextensionsv1.ClusterScoped), snapshotDefinition("VolumeSnapshotContent", apiextensionsv1.ClusterScoped))
	env := &envtest.Environment{CRDs: parsed, ControlPlaneStartTimeout: 2 * time.Minute}
	env.ControlPlane.Etcd = &envtest.Etcd{Path: binary(t, "etcd")}
	server := env.ControlPlane.GetAPIServer()
	server.Path = binary(t, "kube-apiserver")
	server.Configure().Set("authorization-mode", "RBAC").Set("audit-policy-file", policy).Set("audit-log-path", cl.audit)
	if cl.config, err = env.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(cl.config)
	config.UserAgent, config.QPS = "test", -1
	if cl.c, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	cl.namespace("kubevirt", nil)
	cl.namespace("lab", map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	cl.namespace("golden", nil)
	for _, obj := range components.Accounts(components.Options{Namespace: "kubevirt"}) {
		cl.create(obj.(client.Object))
	}
	cl.installation()
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
		cert, key := authority(cl.t, secret)
		cl.create(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kubevirt", Name: secret}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
		})
		cl.create(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kubevirt", Name: bundle}, Data: map[string]string{names.BundleKey: string(cert)},
		})
	}
}

// authority makes a certificate that signs.
func authority(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
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
	account := rest.CopyConfig(cl.config)
	account.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:kubevirt:cdi-sa", Groups: []string{"system:serviceaccounts", "system:authenticated"},
	}
	mgr, err := NewManager(ctx, account, Flags{WorkerImage: "localhost/virtctl/virt-launcher:test", PullPolicy: "IfNotPresent", Namespace: "kubevirt", LeaderElection: true, Digest: cl.images.ask})
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
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := cl.c.Watch(ctx, list, client.InNamespace(namespace), client.MatchingFields{"metadata.name": name})
	if err != nil {
		cl.t.Fatal(err)
	}
	defer w.Stop()
	var last T
	for e := range w.ResultChan() {
		obj, is := e.Object.(T)
		if !is || e.Type == watch.Deleted {
			continue
		}
		last = obj
		if ok(obj) {
			return obj
		}
	}
	text, _ := json.MarshalIndent(last, "", " ")
	cl.t.Fatalf("%s: %s did not happen; last seen: %s", name, what, text)
	return last
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

// kubelet writes a pod's status.
func (cl *cluster) kubelet(pod *corev1.Pod, phase corev1.PodPhase, state corev1.ContainerState, restarts int32) {
	cl.t.Helper()
	cl.kubeletStatus(pod, phase, corev1.ContainerStatus{State: state, RestartCount: restarts, Ready: state.Running != nil})
}

func (cl *cluster) kubeletStatus(pod *corev1.Pod, phase corev1.PodPhase, s corev1.ContainerStatus) {
	cl.t.Helper()
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

// awaitRenewals lets some time pass, measured in renewals of the leader's lease, which come every two seconds.
func (cl *cluster) awaitRenewals(count int) {
	cl.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w, err := cl.c.Watch(ctx, &coordinationv1.LeaseList{}, client.InNamespace("kubevirt"))
	if err != nil {
		cl.t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type != watch.Modified {
			continue
		}
		if count--; count == 0 {
			return
		}
	}
	cl.t.Fatal("the leader does not renew its lease")
}

// request is one request in the audit log.
type request struct{ Verb, Resource, Namespace, Name, Code string }

// requests reads what the controller asked for, but for its lease.
func (cl *cluster) requests() []request {
	cl.t.Helper()
	f, err := os.Open(cl.audit)
	if err != nil {
		cl.t.Fatal(err)
	}
	defer f.Close()
	var out []request
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			UserAgent, Verb string
			ObjectRef       struct{ Resource, Subresource, Namespace, Name string }
			ResponseStatus  struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || !strings.HasPrefix(e.UserAgent, component) || e.ObjectRef.Resource == "leases" {
			continue
		}
		resource := e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			resource += "/" + e.ObjectRef.Subresource
		}
		out = append(out, request{e.Verb, resource, e.ObjectRef.Namespace, e.ObjectRef.Name, fmt.Sprint(e.ResponseStatus.Code)})
	}
	return out
}

// writes are the requests that change something.
func (cl *cluster) writes() []request {
	return slices.DeleteFunc(cl.requests(), func(r request) bool {
		return r.Verb == "get" || r.Verb == "list" || r.Verb == "watch" || r.Resource == "events" && strings.HasPrefix(r.Name, component+".")
	})
}

// judge fails the test for requests that were refused or came to nothing.
func (cl *cluster) judge() {
	cl.t.Helper()
	seen := map[request]bool{}
	for _, r := range cl.requests() {
		if r.Namespace != "full" && (r.Code == "403" || r.Code == "422" || r.Code == "400") && !seen[r] {
			seen[r] = true
			cl.t.Errorf("refused: %+v", r)
		}
	}
}

func summary(writes []request) string {
	count := map[string]int{}
	var order []string
	for _, w := range writes {
		key := w.Verb + " " + w.Resource + " " + w.Code
		if count[key] == 0 {
			order = append(order, key)
		}
		count[key]++
	}
	var b strings.Builder
	for _, key := range order {
		fmt.Fprintf(&b, "%5d %s\n", count[key], key)
	}
	return b.String()
}
