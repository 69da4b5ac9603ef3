package vmi

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/index"
	"virtctl/internal/server/controller/launcherpod"
)

// Reasons of events and of the condition Synchronized.
const (
	reasonCreated      = "SuccessfulCreate"
	reasonCreateFailed = "FailedCreate"
	reasonDeleteFailed = "FailedDelete"
)

// retryNameTaken is when to look again after the pod's name was taken by a pod of somebody else or one that is going.
const retryNameTaken = 5 * time.Second

// findPods looks up the pods whose controller is this very VMI: by UID, whatever their labels say.
func (r *Reconciler) findPods(ctx context.Context, p *pass) error {
	pods, err := index.OwnedPods(ctx, r.Client, p.vmi.Namespace, p.vmi.UID)
	if err != nil {
		return err
	}
	p.pods, p.pod = pods, currentPod(p.vmi, pods)
	return nil
}

// currentPod picks the pod the guest runs in. While a migration runs, its target's pod is the VMI's as well.
func currentPod(vmi *v1.VirtualMachineInstance, pods []corev1.Pod) *corev1.Pod {
	var current *corev1.Pod
	for i := range pods {
		pod := &pods[i]
		switch m := vmi.Status.MigrationState; {
		case m != nil && m.Completed && !m.Failed && m.TargetPod == pod.Name:
			return pod
		case pod.Labels[v1.MigrationJobLabel] != "" && pod.Spec.NodeName != vmi.Status.NodeName:
			continue
		case current == nil || pod.Name == launcherpod.Name(vmi):
			current = pod
		}
	}
	return current
}

// livePod asks the API server for the VMI's pod.
func (r *Reconciler) livePod(ctx context.Context, vmi *v1.VirtualMachineInstance) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: vmi.Namespace, Name: launcherpod.Name(vmi)}, pod)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for the launcher pod: %w", err)
	case !metav1.IsControlledBy(pod, vmi):
		return nil, nil
	}
	return pod, nil
}

// createPod makes the launcher pod once everything it needs is there.
func (r *Reconciler) createPod(ctx context.Context, p *pass) error {
	if p.pod != nil || p.vmi.DeletionTimestamp != nil || !p.vmi.IsUnprocessed() {
		return nil
	}
	claims, ready, err := r.claims(ctx, p)
	if err != nil || !ready {
		return err
	}
	limits, err := r.autoLimits(ctx, p.vmi)
	if err != nil {
		return err
	}
	state, err := r.stateClaim(ctx, p.vmi)
	if err != nil {
		r.notCreated(p, err)
		return err
	}
	pod, err := launcherpod.Render(launcherpod.Input{
		VMI: p.vmi, Config: r.Config.Get(), Image: r.LauncherImage, PullSecrets: r.PullSecrets, Claims: claims, AutoLimits: limits,
		StateClaim: state,
	})
	if err != nil {
		// Trying again does not help; a change of the VMI or of the configuration brings us back.
		r.notCreated(p, err)
		return nil
	}
	return r.submit(ctx, p, pod)
}

func (r *Reconciler) submit(ctx context.Context, p *pass, pod *corev1.Pod) error {
	err := r.Client.Create(ctx, pod)
	switch {
	case apierrors.IsAlreadyExists(err):
		return r.nameTaken(ctx, p, pod.Name)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // the VMI is about to go as well
	case err != nil:
		r.notCreated(p, err)
		return fmt.Errorf("create the launcher pod: %w", err)
	}
	p.pod = pod
	p.pods = []corev1.Pod{*pod}
	// The event of a VM says that it was started; its instance's would say the same again.
	if owner := metav1.GetControllerOf(p.vmi); owner == nil || owner.Kind != v1.VirtualMachineGroupVersionKind.Kind {
		r.event(p.vmi, corev1.EventTypeNormal, reasonCreated, "CreatePod", "Created virtual machine pod "+pod.Name)
	}
	return nil
}

// nameTaken: the name follows from our UID, so the pod is ours and the cache is old, or somebody plays tricks.
func (r *Reconciler) nameTaken(ctx context.Context, p *pass, name string) error {
	pod, err := r.livePod(ctx, p.vmi)
	switch {
	case err != nil:
		return err
	case pod == nil:
		r.notCreated(p, fmt.Errorf("a pod named %s exists that does not belong to this VMI; delete it", name))
		p.again(retryNameTaken)
	case pod.DeletionTimestamp != nil:
		p.again(retryNameTaken)
	default:
		p.pod, p.pods = pod, []corev1.Pod{*pod}
	}
	return nil
}

func (r *Reconciler) notCreated(p *pass, err error) {
	message := err.Error()
	if apierrors.IsForbidden(err) {
		message += "; if Pod Security or a quota refuses the pod, change the namespace's labels or its quota"
	}
	if r.unsynchronized(p, reasonCreateFailed, message) {
		r.event(p.vmi, corev1.EventTypeWarning, reasonCreateFailed, "CreatePod", message)
	}
}

// deletePods removes the pods of a deleted VMI: those that have ended at once, the others when virt-handler had its time. Then
// kubelet tells the launcher to end, which powers the guest off.
func (r *Reconciler) deletePods(ctx context.Context, p *pass) error {
	if p.vmi.DeletionTimestamp == nil {
		return nil
	}
	wait := r.stopping(p.vmi)
	for i := range p.pods {
		pod := &p.pods[i]
		if wait > 0 && !launcherEnded(pod) {
			p.again(wait)
			continue
		}
		if err := r.deletePod(ctx, p.vmi, pod); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) deletePod(ctx context.Context, vmi *v1.VirtualMachineInstance, pod *corev1.Pod) error {
	grace := launcherpod.GraceSeconds(vmi)
	if pod.DeletionTimestamp == nil && launcherEnded(pod) {
		grace = 0 // kubelet has reported the end; nothing is left to wait for
	}
	if pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds <= grace {
		return nil
	}
	key := client.ObjectKeyFromObject(vmi)
	if !r.firstDelete(key, pod.UID, grace) {
		return nil
	}
	err := r.Client.Delete(ctx, pod, client.GracePeriodSeconds(grace), client.Preconditions{UID: &pod.UID})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		r.undelete(key, pod.UID)
		r.event(vmi, corev1.EventTypeWarning, reasonDeleteFailed, "DeletePod", fmt.Sprintf("Deleting pod %s failed: %v", pod.Name, err))
		return fmt.Errorf("delete the launcher pod: %w", err)
	}
	return nil
}

// firstDelete notes that a pod is told to go within grace seconds. It says no when that, or sooner, was told before.
func (r *Reconciler) firstDelete(vmi types.NamespacedName, pod types.UID, grace int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if told, ok := r.deleted[vmi][pod]; ok && told <= grace {
		return false
	}
	if r.deleted[vmi] == nil {
		r.deleted[vmi] = map[types.UID]int64{}
	}
	r.deleted[vmi][pod] = grace
	return true
}

func (r *Reconciler) undelete(vmi types.NamespacedName, pod types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.deleted[vmi], pod)
}
