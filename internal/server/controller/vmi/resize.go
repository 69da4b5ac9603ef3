package vmi

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/server/controller/condition"
	"virtctl/internal/server/controller/launcherpod"
)

// Reasons of HotVCPUChange and HotMemoryChange. virt-handler plugs when the pod has what the guest will use.
const (
	reasonResizing = "PodResizing"
	reasonWaiting  = "PodResizePending"
	reasonResized  = "PodResized"
)

// resize gives the pod of a running guest what more processors or memory need. Kubernetes changes a running pod in place, so that
// the guest grows where it is and need not move.
func (r *Reconciler) resize(ctx context.Context, p *pass) error {
	if p.pod == nil || !p.vmi.IsRunning() || p.vmi.DeletionTimestamp != nil || p.vmi.IsFinal() {
		return nil
	}
	cpu, memory := growsCPU(p.vmi), growsMemory(p.vmi)
	settle(p.vmi, v1.VirtualMachineInstanceVCPUChange, cpu)
	settle(p.vmi, v1.VirtualMachineInstanceMemoryChange, memory)
	if !cpu && !memory {
		return nil
	}
	reason, message, err := r.resizePod(ctx, p)
	if err != nil {
		return err
	}
	for kind, grows := range map[v1.VirtualMachineInstanceConditionType]bool{
		v1.VirtualMachineInstanceVCPUChange: cpu, v1.VirtualMachineInstanceMemoryChange: memory,
	} {
		if grows {
			condition.Set(p.vmi, v1.VirtualMachineInstanceCondition{
				Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message,
			}, r.Now())
		}
	}
	return nil
}

// settle takes a condition away when the guest has grown.
func settle(vmi *v1.VirtualMachineInstance, kind v1.VirtualMachineInstanceConditionType, grows bool) {
	if !grows {
		condition.Remove(vmi, kind)
	}
}

func growsCPU(vmi *v1.VirtualMachineInstance) bool {
	want, have := vmi.Spec.Domain.CPU, vmi.Status.CurrentCPUTopology
	return want != nil && have != nil && have.Sockets > 0 && want.Sockets > have.Sockets
}

func growsMemory(vmi *v1.VirtualMachineInstance) bool {
	want, have := vmi.Spec.Domain.Memory, vmi.Status.Memory
	return want != nil && want.Guest != nil && want.MaxGuest != nil && have != nil && have.GuestCurrent != nil && have.GuestAtBoot != nil &&
		want.Guest.Cmp(*have.GuestCurrent) > 0 && want.Guest.Cmp(*have.GuestAtBoot) > 0
}

// resizePod asks for the resources once and then tells how far the node is.
func (r *Reconciler) resizePod(ctx context.Context, p *pass) (reason, message string, err error) {
	pod := &corev1.Pod{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(p.pod), pod); err != nil {
		return "", "", fmt.Errorf("read the launcher pod: %w", err)
	}
	limits, err := r.autoLimits(ctx, p.vmi)
	if err != nil {
		return "", "", err
	}
	wanted, err := launcherpod.Requirements(launcherpod.Input{VMI: p.vmi, Config: r.Config.Get(), AutoLimits: limits})
	if err != nil {
		return "", "", err
	}
	have := containerResources(pod)
	if have == nil {
		return "", "", fmt.Errorf("pod %s has no container %s", pod.Name, layout.ComputeContainer)
	}
	if change := grown(have, &wanted); change != nil {
		body, err := json.Marshal(map[string]any{"spec": map[string]any{"containers": []any{
			map[string]any{"name": layout.ComputeContainer, "resources": change},
		}}})
		if err != nil {
			return "", "", fmt.Errorf("encode the pod's resources: %w", err)
		}
		err = r.Client.SubResource("resize").Patch(ctx, pod, client.RawPatch(types.StrategicMergePatchType, body))
		if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			return reasonWaiting, "the launcher pod cannot grow: " + err.Error(), nil
		}
		if err != nil {
			return "", "", fmt.Errorf("resize the launcher pod: %w", err)
		}
		return reasonResizing, "the launcher pod is being given more resources", nil
	}
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == corev1.PodResizePending:
			return reasonWaiting, "the node has no room for the guest to grow: " + c.Message + "; migrate the VM to one that has", nil
		case c.Type == corev1.PodResizeInProgress:
			return reasonResizing, "the launcher pod is being given more resources", nil
		}
	}
	if pod.Status.ObservedGeneration != 0 && pod.Status.ObservedGeneration < pod.Generation {
		return reasonResizing, "the launcher pod is being given more resources", nil
	}
	return reasonResized, "the guest may grow", nil
}

func containerResources(pod *corev1.Pod) *corev1.ResourceRequirements {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == layout.ComputeContainer {
			return &pod.Spec.Containers[i].Resources
		}
	}
	return nil
}

// grown is what of processors and memory must become more, nil if nothing must. Whatever else differs can only change with a new
// pod.
func grown(have, want *corev1.ResourceRequirements) map[string]corev1.ResourceList {
	change := map[string]corev1.ResourceList{}
	for kind, lists := range map[string][2]corev1.ResourceList{"requests": {have.Requests, want.Requests}, "limits": {have.Limits, want.Limits}} {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			old, had := lists[0][name]
			if now, ok := lists[1][name]; ok && had && now.Cmp(old) > 0 {
				if change[kind] == nil {
					change[kind] = corev1.ResourceList{}
				}
				change[kind][name] = now
			}
		}
	}
	if len(change) == 0 {
		return nil
	}
	return change
}
