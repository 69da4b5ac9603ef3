package claim

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/settings"
	"virtctl/internal/server/cdi/controller/workerpod"
)

// start makes the pod, when the claim is free and somebody wants it filled now.
func (r *Reconciler) start(ctx context.Context, p *pass) error {
	waits, err := r.waitsForConsumer(ctx, p)
	if err != nil || waits {
		return err
	}
	users, err := index.Users(ctx, r.Client, p.claim.Namespace, p.claim.Name, false)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		reason := names.EventImportTargetInUse
		if p.job != importing {
			reason = names.EventUploadTargetInUse
		}
		r.tell(p, corev1.EventTypeWarning, reason, "pod %s/%s using PersistentVolumeClaim %s", users[0].Namespace, users[0].Name, p.claim.Name)
		return nil // the pod's end brings us back
	}
	pod, after, err := r.render(ctx, p)
	if err != nil || pod == nil {
		return err
	}
	pod.Annotations[names.AnnPodRestarts] = orZero(p.claim.Annotations[names.AnnPodRestarts])
	if err := r.Client.Create(ctx, pod); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return nil // ours, and the cache does not know it yet
		}
		return r.notStarted(p, pod, err)
	}
	if p.claim.Annotations[names.AnnRunningCondition+names.SuffixReason] == names.EventErrStartingPod {
		clearRunning(p.claim.Annotations)
	}
	return after(ctx, pod)
}

// render makes the pod and what must follow it.
func (r *Reconciler) render(ctx context.Context, p *pass) (*corev1.Pod, func(context.Context, *corev1.Pod) error, error) {
	s := p.settings.Worker(className(p.claim))
	if p.job != importing {
		return r.renderUpload(ctx, p, s)
	}
	return r.renderImport(ctx, p, s)
}

// notStarted says on the claim why there is no pod. Quota or a missing priority class may be mended by others: the error brings
// another try.
func (r *Reconciler) notStarted(p *pass, pod *corev1.Pod, err error) error {
	message := fmt.Sprintf("Error starting pod '%s': %v", pod.Name, err)
	reason := names.EventErrStartingPod
	if IsQuota(err) {
		reason = names.EventErrExceededQuota
	}
	a := p.claim.Annotations
	if a[names.AnnRunningCondition+names.SuffixMessage] != message {
		a[names.AnnRunningCondition] = no
		a[names.AnnRunningCondition+names.SuffixReason] = names.EventErrStartingPod
		a[names.AnnRunningCondition+names.SuffixMessage] = message
		r.tell(p, corev1.EventTypeWarning, reason, "%s", message)
	}
	return fmt.Errorf("create pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// IsQuota tells that a quota refused an object.
func IsQuota(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota")
}

// waitsForConsumer tells that the claim's class binds late and nobody asked us not to wait. Otherwise our pod is the consumer.
func (r *Reconciler) waitsForConsumer(ctx context.Context, p *pass) (bool, error) {
	if p.claim.Status.Phase == corev1.ClaimBound || !HonorsWait(p.settings, p.claim) {
		return false, nil
	}
	return BindsLate(ctx, r.Client, p.claim.Spec.StorageClassName)
}

// HonorsWait tells that the claim shall stay unbound until somebody uses it, if its class binds late.
func HonorsWait(s *settings.Current, claim *corev1.PersistentVolumeClaim) bool {
	_, immediate := claim.Annotations[names.AnnImmediateBinding]
	return s.Gate(settings.GateHonorWait) && !immediate && claim.Annotations[names.AnnSelectedNode] == ""
}

// BindsLate tells that volumes of a class are made for the first pod that uses them.
func BindsLate(ctx context.Context, c client.Reader, class *string) (bool, error) {
	if class == nil || *class == "" {
		return false, nil
	}
	found := &storagev1.StorageClass{}
	if err := c.Get(ctx, client.ObjectKey{Name: *class}, found); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return found.VolumeBindingMode != nil && *found.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer, nil
}

func className(claim *corev1.PersistentVolumeClaim) string {
	if claim.Spec.StorageClassName == nil {
		return ""
	}
	return *claim.Spec.StorageClassName
}

func clearRunning(a map[string]string) {
	delete(a, names.AnnRunningCondition)
	delete(a, names.AnnRunningCondition+names.SuffixReason)
	delete(a, names.AnnRunningCondition+names.SuffixMessage)
}

func orZero(count string) string {
	if count == "" {
		return "0"
	}
	return count
}

// renderImport makes an importer.
func (r *Reconciler) renderImport(ctx context.Context, p *pass, s *workerpod.Settings) (*corev1.Pod, func(context.Context, *corev1.Pod) error, error) {
	if why := unsupported(p.claim); why != "" {
		a := p.claim.Annotations
		a[names.AnnRunningCondition], a[names.AnnRunningCondition+names.SuffixReason] = no, "UnsupportedSource"
		a[names.AnnRunningCondition+names.SuffixMessage] = why
		a[names.AnnPodPhase], a[names.AnnImportFatalError] = string(corev1.PodFailed), yes
		r.tell(p, corev1.EventTypeWarning, names.EventErrImportFailed, "%s", why)
		return nil, nil, nil
	}
	bundle := p.settings.ProxyBundle()
	if bundle != "" {
		s.Proxy.Bundle = names.Resource("import-proxy-cm", p.claim.Name)
	}
	scratch := ""
	if p.claim.Annotations[names.AnnRequiresScratch] == yes {
		scratch = workerpod.ScratchName(p.claim)
		if err := r.scratchIsFree(ctx, p.claim.Namespace, scratch); err != nil {
			return nil, nil, err
		}
	}
	after := func(ctx context.Context, pod *corev1.Pod) error {
		if bundle != "" {
			if err := r.copyBundle(ctx, pod, bundle, s.Proxy.Bundle); err != nil {
				return err
			}
		}
		if scratch == "" {
			return nil
		}
		return r.makeScratch(ctx, p, pod)
	}
	return workerpod.Importer(p.claim, scratch, s), after, nil
}

// unsupported gives the reason why a source cannot be read here, or nothing.
func unsupported(claim *corev1.PersistentVolumeClaim) string {
	switch source := workerpod.Source(claim); source {
	case names.SourceHTTP, names.SourceS3, names.SourceGCS, names.SourceNone, names.SourceRegistry:
		return ""
	case names.SourceVDDK, names.SourceImageio, names.SourceGlance:
		return fmt.Sprintf("source %s needs a tool that this installation does not have; bring the image as http, registry, s3 or by virtctl image-upload",
			source)
	default:
		return fmt.Sprintf("source %q is unknown; use http, registry, s3, gcs, none or upload", source)
	}
}
