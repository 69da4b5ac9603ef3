package vmi

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/launcherpod"
)

// autoMemoryRatio is the memory limit per requested memory that a VM gets where a quota demands a limit.
const autoMemoryRatio = 2.0

// autoLimits finds out whether the namespace demands limits: a ResourceQuota on limits refuses pods without them.
func (r *Reconciler) autoLimits(ctx context.Context, vmi *v1.VirtualMachineInstance) (launcherpod.AutoLimits, error) {
	var limits launcherpod.AutoLimits
	var quotas corev1.ResourceQuotaList
	if err := r.Client.List(ctx, &quotas, client.InNamespace(vmi.Namespace)); err != nil {
		return limits, fmt.Errorf("list the quotas of namespace %s: %w", vmi.Namespace, err)
	}
	for i := range quotas.Items {
		hard := quotas.Items[i].Spec.Hard
		if _, ok := hard[corev1.ResourceLimitsCPU]; ok {
			limits.CPU = true
		}
		if _, ok := hard[corev1.ResourceLimitsMemory]; ok {
			limits.MemoryRatio = autoMemoryRatio
		}
	}
	selector := r.Config.Get().Compute.AutoCPULimitNamespaces
	if selector == nil && limits.MemoryRatio == 0 {
		return limits, nil
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.Live.Get(ctx, types.NamespacedName{Name: vmi.Namespace}, namespace); err != nil {
		return limits, fmt.Errorf("read namespace %s: %w", vmi.Namespace, err)
	}
	if selector != nil {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return limits, fmt.Errorf("autoCPULimitNamespaceLabelSelector of the KubeVirt object: %w", err)
		}
		limits.CPU = limits.CPU || s.Matches(labels.Set(namespace.Labels))
	}
	if text, ok := namespace.Labels[v1.AutoMemoryLimitsRatioLabel]; ok && limits.MemoryRatio > 0 {
		if ratio, err := strconv.ParseFloat(text, 64); err == nil && ratio >= 1 && ratio <= 100 {
			limits.MemoryRatio = ratio
		}
	}
	return limits, nil
}
