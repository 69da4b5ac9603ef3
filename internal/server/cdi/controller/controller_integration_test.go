//go:build integration

package controller

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/test/controlplane"
)

func volume(namespace, name string, source *cdi.DataVolumeSource) *cdi.DataVolume {
	dv := &cdi.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	dv.Spec.Source = source
	dv.Spec.Storage = &cdi.StorageSpec{Resources: corev1.VolumeResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("64Mi")},
	}}
	return dv
}

func text(s string) *string { return &s }

// The lives of DataVolumes on a real API server, in a namespace that enforces Pod Security restricted.
func TestLivesOnAPIServer(t *testing.T) {
	cl := startCluster(t)
	cl.startControllers()
	t.Run("storage", cl.with(storageKnowledge))
	t.Run("import", cl.with(importLife))
	t.Run("failing import", cl.with(failingImport))
	t.Run("upload", cl.with(uploadLife))
	t.Run("clone", cl.with(cloneLife))
	t.Run("csi clone", cl.with(csiCloneLife))
	t.Run("refused clone", cl.with(refusedCloneLife))
	t.Run("snapshot clone", cl.with(snapshotCloneLife))
	t.Run("import cron", cl.with(importCronLife))
	t.Run("populator", cl.with(populatorLife))
	t.Run("transfer", cl.with(transferLife))
	t.Run("quota", cl.with(quotaLife))
	cl.t = t
	cl.awaitRenewals(2)
	idle := len(cl.writes())
	cl.awaitRenewals(3)
	if writes := cl.writes(); len(writes) != idle {
		t.Errorf("while nothing happens: %+v", writes[idle:])
	}
	t.Logf("all writes:\n%s", controlplane.Summary(cl.writes()))
	cl.judge()
}

func (cl *cluster) with(test func(*cluster)) func(*testing.T) {
	return func(t *testing.T) {
		was := cl.t
		cl.t = t
		defer func() { cl.t = was }()
		test(cl)
	}
}

func importLife(cl *cluster) {
	before := len(cl.writes())
	dv := volume("lab", "root", &cdi.DataVolumeSource{HTTP: &cdi.DataVolumeSourceHTTP{URL: "https://example.com/disk.qcow2", Checksum: "sha256:00"}})
	cl.create(dv)
	pod := cl.awaitPod("lab", "importer-root")
	c := cl.claim("lab", "root")
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if size.Value() != 71135396 || *c.Spec.StorageClassName != "local" || c.Spec.AccessModes[0] != corev1.ReadWriteOnce || *c.Spec.VolumeMode != corev1.PersistentVolumeFilesystem {
		cl.t.Errorf("claim %+v", c.Spec)
	}
	cl.bind("lab", "root")
	cl.kubelet(pod, corev1.PodPending, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}, 0)
	cl.awaitPhase("lab", "root", cdi.ImportScheduled)
	cl.kubelet(pod, corev1.PodRunning, running(), 0)
	cl.awaitPhase("lab", "root", cdi.ImportInProgress)
	done := names.MessageImportComplete
	// kubelet reports the container's end before the pod's.
	cl.kubelet(pod, corev1.PodRunning, ended(0, "Completed", names.TerminationMessage{
		Message: &done, Digest: "sha256:abc", Length: 42, Labels: map[string]string{names.LabelDefaultInstancetype: "u1.small", "evil": "x"},
	}), 0)
	got := cl.awaitPhase("lab", "root", cdi.Succeeded)
	if got.Status.Progress != "100.0%" || got.Status.ClaimName != "root" {
		cl.t.Errorf("status %+v", got.Status)
	}
	for _, c := range got.Status.Conditions {
		if (c.Type == cdi.DataVolumeReady || c.Type == cdi.DataVolumeBound) != (c.Status == corev1.ConditionTrue) {
			cl.t.Errorf("condition %+v", c)
		}
	}
	cl.awaitGone(&corev1.PodList{}, pod)
	c = cl.claim("lab", "root")
	if c.Annotations[names.AnnContentDigest] != "sha256:abc" || c.Labels[names.LabelDefaultInstancetype] != "u1.small" || c.Labels["evil"] != "" {
		cl.t.Errorf("claim %v %v", c.Annotations, c.Labels)
	}
	for _, w := range cl.events("lab", "root") {
		if w.Type == corev1.EventTypeWarning {
			cl.t.Errorf("a success worries people: %s %s", w.Reason, w.Message)
		}
	}
	if got.Annotations[names.AnnUsePopulator] != "false" {
		cl.t.Error("the DataVolume does not say that it needs no populator")
	}
	cl.t.Logf("writes of an import, events included:\n%s", controlplane.Summary(cl.writes()[before:]))
}

func failingImport(cl *cluster) {
	cl.create(volume("lab", "bad", &cdi.DataVolumeSource{HTTP: &cdi.DataVolumeSourceHTTP{URL: "https://example.com/bad.img"}}))
	pod := cl.awaitPod("lab", "importer-bad")
	cl.bind("lab", "bad")
	why := names.MessageErrorPrefix + "the server is away"
	cl.kubeletStatus(pod, corev1.PodRunning, corev1.ContainerStatus{
		RestartCount: 1, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: ended(1, "Error", names.TerminationMessage{Message: &why}),
	})
	got := await(cl, &cdi.DataVolumeList{}, "lab", "bad", "reason", func(dv *cdi.DataVolume) bool {
		for _, c := range dv.Status.Conditions {
			if c.Type == cdi.DataVolumeRunning && c.Message == why {
				return true
			}
		}
		return false
	})
	if got.Status.RestartCount != 1 {
		cl.t.Errorf("%d restarts", got.Status.RestartCount)
	}
	// Killed for its memory: the next one writes around the page cache.
	cl.kubeletStatus(pod, corev1.PodRunning, corev1.ContainerStatus{RestartCount: 1, State: ended(137, names.ReasonOOMKilled, names.TerminationMessage{})})
	again := await(cl, &corev1.PodList{}, "lab", "importer-bad", "another pod", func(p *corev1.Pod) bool { return p.UID != pod.UID })
	mode := ""
	for _, e := range again.Spec.Containers[0].Env {
		if e.Name == names.EnvCacheMode {
			mode = e.Value
		}
	}
	if mode != names.CacheModeTryNone {
		cl.t.Errorf("cache mode %q", mode)
	}
	// A wrong checksum is final.
	mismatch := names.MessageErrorPrefix + "checksum mismatch"
	cl.kubelet(again, corev1.PodRunning, ended(1, "Error", names.TerminationMessage{Message: &mismatch, Fatal: true, Reason: "ChecksumError"}), 0)
	cl.awaitPhase("lab", "bad", cdi.Failed)
	cl.awaitGone(&corev1.PodList{}, again)
	if c := cl.claim("lab", "bad"); c.Annotations[names.AnnImportFatalError] != "true" || c.Annotations[names.AnnRunningCondition+names.SuffixReason] != "ChecksumError" {
		cl.t.Errorf("claim %v", c.Annotations)
	}
}

func uploadLife(cl *cluster) {
	cl.create(volume("lab", "up", &cdi.DataVolumeSource{Upload: &cdi.DataVolumeSourceUpload{}}))
	pod := cl.awaitPod("lab", "cdi-upload-up")
	cl.bind("lab", "up")
	secret := ""
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			secret = v.Secret.SecretName
		}
	}
	await(cl, &corev1.SecretList{}, "lab", secret, "certificate", func(s *corev1.Secret) bool {
		return metav1.IsControlledBy(s, pod) && len(s.Data[names.ClientCAFile]) > 0
	})
	service := await(cl, &corev1.ServiceList{}, "lab", "cdi-upload-up", "service", func(s *corev1.Service) bool {
		return s.Spec.Selector[names.LabelUploadService] == pod.Labels[names.LabelUploadService]
	})
	cl.kubelet(pod, corev1.PodRunning, running(), 0)
	cl.awaitPhase("lab", "up", cdi.UploadReady)
	if c := cl.claim("lab", "up"); c.Annotations[names.AnnPodReady] != "true" || c.Annotations[names.AnnPodPhase] != "Running" {
		cl.t.Errorf("upstream's client would wait: %v", c.Annotations)
	}
	// Somebody kills the server: another takes its place.
	if err := cl.c.Delete(context.Background(), pod, client.GracePeriodSeconds(0)); err != nil {
		cl.t.Fatal(err)
	}
	second := await(cl, &corev1.PodList{}, "lab", "cdi-upload-up", "another pod", func(p *corev1.Pod) bool { return p.UID != pod.UID })
	// Its certificate nears its end: a third.
	yes := true
	cl.kubelet(second, corev1.PodSucceeded, ended(0, "Completed", names.TerminationMessage{DeadlinePassed: &yes}), 0)
	third := await(cl, &corev1.PodList{}, "lab", "cdi-upload-up", "a third pod", func(p *corev1.Pod) bool { return p.UID != pod.UID && p.UID != second.UID })
	cl.kubelet(third, corev1.PodRunning, running(), 0)
	cl.awaitPhase("lab", "up", cdi.UploadReady)
	done := names.MessageUploadComplete
	cl.kubelet(third, corev1.PodSucceeded, ended(0, "Completed", names.TerminationMessage{Message: &done, Digest: "sha256:def", Length: 7}), 0)
	cl.awaitPhase("lab", "up", cdi.Succeeded)
	cl.awaitGone(&corev1.PodList{}, third)
	cl.awaitGone(&corev1.ServiceList{}, service)
	if c := cl.claim("lab", "up"); c.Annotations[names.AnnContentDigest] != "sha256:def" || c.Annotations[names.AnnContentLength] != "7" {
		cl.t.Errorf("claim %v", c.Annotations)
	}
}

func cloneLife(cl *cluster) {
	source := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "debian", Labels: map[string]string{names.LabelDefaultPreference: "debian"}}}
	source.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	source.Spec.StorageClassName = text("local")
	source.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("64Mi")}
	cl.create(source)
	cl.bind("golden", "debian")
	user := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "user"}}
	user.Spec.Containers = []corev1.Container{{Name: "c", Image: "x", VolumeMounts: []corev1.VolumeMount{{Name: "d", MountPath: "/d"}}}}
	user.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "debian"}}}}
	cl.create(user)

	from := &cdi.DataVolumeSource{PVC: &cdi.DataVolumeSourcePVC{Namespace: "golden", Name: "debian"}}
	cl.create(volume("lab", "thief", from))
	await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "thief", "refusal", func(c *corev1.PersistentVolumeClaim) bool {
		return strings.Contains(c.Annotations[names.AnnRunningCondition+names.SuffixMessage], "may not be cloned")
	})

	permit := cl.permit("golden", "debian", "lab", "copy")
	dv := volume("lab", "copy", from)
	dv.Spec.Storage.Resources = corev1.VolumeResourceRequirements{}
	dv.Annotations = map[string]string{names.AnnCloneToken: permit}
	cl.create(dv)
	server := cl.awaitPod("lab", "cdi-upload-copy")
	cl.bind("lab", "copy")
	cl.kubelet(server, corev1.PodRunning, running(), 0)
	target := await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "copy", "wait for the source's user", func(c *corev1.PersistentVolumeClaim) bool {
		return c.Annotations[names.AnnSourceRunningCondition+names.SuffixReason] == names.EventCloneSourceInUse
	})
	if size := target.Spec.Resources.Requests[corev1.ResourceStorage]; size.String() != "64Mi" || target.Labels[names.LabelDefaultPreference] != "debian" {
		cl.t.Errorf("claim of %s, labels %v", size.String(), target.Labels)
	}
	if err := cl.c.Delete(context.Background(), user, client.GracePeriodSeconds(0)); err != nil {
		cl.t.Fatal(err)
	}
	reader := cl.awaitPod("golden", string(target.UID)+"-source-pod")
	cl.kubelet(reader, corev1.PodRunning, running(), 0)
	cl.awaitPhase("lab", "copy", cdi.CloneInProgress)
	done := names.MessageCloneComplete
	cl.kubelet(reader, corev1.PodSucceeded, ended(0, "Completed", names.TerminationMessage{Message: &done}), 0)
	cl.kubelet(server, corev1.PodSucceeded, ended(0, "Completed", names.TerminationMessage{Message: &done}), 0)
	cl.awaitPhase("lab", "copy", cdi.Succeeded)
	cl.awaitGone(&corev1.PodList{}, reader)
	cl.awaitGone(&corev1.PodList{}, server)
	await(cl, &corev1.PersistentVolumeClaimList{}, "lab", "copy", "freedom", func(c *corev1.PersistentVolumeClaim) bool { return len(c.Finalizers) == 1 })
}

// What administrators and `virtctl storage check` read: profiles with reasons, and the configuration's outcome.
func storageKnowledge(cl *cluster) {
	await(cl, &cdi.StorageProfileList{}, "", "local", "profile", func(p *cdi.StorageProfile) bool {
		return len(p.Status.ClaimPropertySets) == 2 && p.Status.CloneStrategy != nil && *p.Status.CloneStrategy == cdi.CloneStrategyHostAssisted &&
			len(p.Status.Conditions) == 1 && p.Status.Conditions[0].Status == corev1.ConditionTrue
	})
	odd := await(cl, &cdi.StorageProfileList{}, "", "odd", "profile", func(p *cdi.StorageProfile) bool {
		return len(p.Status.ClaimPropertySets) == 1 && len(p.Status.Conditions) == 1 && p.Status.Conditions[0].Reason == "UnrecognizedProvisioner"
	})
	before := odd.DeepCopy()
	block := corev1.PersistentVolumeBlock
	odd.Spec.ClaimPropertySets = []cdi.ClaimPropertySet{{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, VolumeMode: &block}}
	if err := cl.c.Patch(context.Background(), odd, client.MergeFrom(before)); err != nil {
		cl.t.Fatal(err)
	}
	await(cl, &cdi.StorageProfileList{}, "", "odd", "administrator's word", func(p *cdi.StorageProfile) bool {
		return len(p.Status.ClaimPropertySets) == 1 && *p.Status.ClaimPropertySets[0].VolumeMode == block
	})
	await(cl, &cdi.CDIConfigList{}, "", names.CDIConfig, "status", func(c *cdi.CDIConfig) bool {
		return c.Status.FilesystemOverhead != nil && c.Status.FilesystemOverhead.StorageClass["local"] == "0.06" &&
			c.Status.DefaultPodResourceRequirements != nil
	})
	path := networkingv1.PathTypePrefix
	ingress := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "kubevirt", Name: "upload"}}
	ingress.Spec.Rules = []networkingv1.IngressRule{{Host: "upload.example.com", IngressRuleValue: networkingv1.IngressRuleValue{
		HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &path, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: names.ServiceUploadProxy, Port: networkingv1.ServiceBackendPort{Number: 443}},
		}}}},
	}}}
	cl.create(ingress)
	await(cl, &cdi.CDIConfigList{}, "", names.CDIConfig, "upload URL", func(c *cdi.CDIConfig) bool {
		return c.Status.UploadProxyURL != nil && *c.Status.UploadProxyURL == "upload.example.com"
	})
}

// permit is the token that the webhook gives to who may clone.
func (cl *cluster) permit(fromNamespace, from, toNamespace, to string) string {
	cl.t.Helper()
	key, err := token.ParsePrivate(cl.key)
	if err != nil {
		cl.t.Fatal(err)
	}
	text, err := token.Sign(key, names.TokenIssuerAPI, token.Payload{
		Operation: token.Clone, Namespace: fromNamespace, Name: from, Resource: token.Claims(),
		Params: map[string]string{token.ParamTargetNamespace: toNamespace, token.ParamTargetName: to},
	}, time.Now(), token.Lifetime)
	if err != nil {
		cl.t.Fatal(err)
	}
	return text
}

// events are what was told about an object.
func (cl *cluster) events(namespace, name string) []corev1.Event {
	cl.t.Helper()
	var list corev1.EventList
	if err := cl.c.List(context.Background(), &list, client.InNamespace(namespace), client.MatchingFields{"involvedObject.name": name}); err != nil {
		cl.t.Fatal(err)
	}
	return list.Items
}
