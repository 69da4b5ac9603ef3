package vmi

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/condition"
)

// evictionInProgress tells the descheduler that a pod's eviction is under way although the API refused it: the guest migrates.
const evictionInProgress = "descheduler.alpha.kubernetes.io/eviction-in-progress"

// showEviction tells that an eviction has asked the guest to leave its node: on the VMI for its users, on the pod for the
// descheduler. The webhook that took the eviction wrote the condition with its mark, and the handler that gets the guest takes both
// away with its first write, so that mostly the pod is all that is left to do.
func (r *Reconciler) showEviction(ctx context.Context, p *pass) error {
	marked := p.vmi.IsMarkedForEviction()
	switch shown := condition.Is(p.vmi, v1.VirtualMachineInstanceEvictionRequested, corev1.ConditionTrue); {
	case marked && !shown:
		condition.Set(p.vmi, v1.VirtualMachineInstanceCondition{
			Type: v1.VirtualMachineInstanceEvictionRequested, Status: corev1.ConditionTrue,
			Reason: v1.VirtualMachineInstanceReasonEvictionRequested, Message: "VMI is marked for eviction",
		}, r.Now())
	case !marked:
		condition.Remove(p.vmi, v1.VirtualMachineInstanceEvictionRequested)
	}
	if p.pod == nil || p.pod.DeletionTimestamp != nil || podEnded(p.pod) {
		return nil
	}
	if _, told := p.pod.Annotations[evictionInProgress]; told == marked {
		return nil
	}
	var value any // nil takes it away
	if marked {
		value = "true"
	}
	return r.annotatePod(ctx, p.pod, evictionInProgress, value)
}

func (r *Reconciler) annotatePod(ctx context.Context, pod *corev1.Pod, key string, value any) error {
	// The UID keeps the patch from a successor of the same name.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "annotations": map[string]any{key: value}}})
	if err != nil {
		return fmt.Errorf("write the pod's annotation: %w", err)
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = r.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("annotate pod %s: %w", pod.Name, err)
	}
	return nil
}
