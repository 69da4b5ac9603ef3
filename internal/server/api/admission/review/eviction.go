package review

import (
	"context"
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	launcherLabelValue    = "virt-launcher"
	deschedulerAnnotation = "requested-by"
	descheduler           = "sigs.k8s.io/descheduler"
)

// validateEviction turns the eviction of a VM's pod into the wish to move the VM: it writes down the node to leave, and puts
// the eviction off. The texts are read by the descheduler and by kubectl drain's users.
func (s *Server) validateEviction(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	pod := &corev1.Pod{}
	if err := s.get(ctx, r.Namespace, r.Name, pod); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return failed(fmt.Errorf("get the pod to evict: %w", err))
	}
	owner := metav1.GetControllerOf(pod)
	if pod.Labels[v1.AppLabel] != launcherLabelValue || owner == nil || owner.Kind != "VirtualMachineInstance" ||
		pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	vmi := &v1.VirtualMachineInstance{}
	if err := s.get(ctx, r.Namespace, owner.Name, vmi); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return failed(fmt.Errorf("get the pod's VMI: %w", err))
	}
	if vmi.UID != owner.UID {
		return nil
	}
	strategy := s.Config.Get().EvictionStrategy
	if vmi.Spec.EvictionStrategy != nil {
		strategy = *vmi.Spec.EvictionStrategy
	}
	switch strategy {
	case v1.EvictionStrategyLiveMigrate:
		if !vmi.IsMigratable() {
			return tooMany(fmt.Sprintf("VMI %s is configured with an eviction strategy but is not live-migratable", vmi.Name))
		}
	case v1.EvictionStrategyLiveMigrateIfPossible:
		if !vmi.IsMigratable() {
			return nil
		}
	case v1.EvictionStrategyExternal:
	default:
		return nil
	}
	return s.evacuate(ctx, r, pod, vmi)
}

func (s *Server) evacuate(ctx context.Context, r *admissionv1.AdmissionRequest, pod *corev1.Pod, vmi *v1.VirtualMachineInstance) *admissionv1.AdmissionResponse {
	if vmi.Status.NodeName != pod.Spec.NodeName {
		return tooMany("Eviction request for target Pod")
	}
	triggered := fmt.Sprintf("Eviction triggered evacuation of VMI \"%s/%s\"", vmi.Namespace, vmi.Name)
	if vmi.IsMarkedForEviction() {
		return tooMany("Evacuation in progress: " + triggered)
	}
	operations := []operation{
		// Whoever sits at another node by now need not leave this one.
		{"test", "/status/nodeName", pod.Spec.NodeName},
		{"add", "/status/evacuationNodeName", pod.Spec.NodeName},
	}
	if len(vmi.Status.Conditions) > 0 { // a VMI that runs has some; virt-controller sees to the others
		operations = append(operations, operation{"add", "/status/conditions/-", v1.VirtualMachineInstanceCondition{
			Type: v1.VirtualMachineInstanceEvictionRequested, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
			Reason: v1.VirtualMachineInstanceReasonEvictionRequested, Message: "VMI is marked for eviction",
		}})
	}
	eviction := &policyv1.Eviction{}
	if err := json.Unmarshal(r.Object.Raw, eviction); err == nil && eviction.Annotations[deschedulerAnnotation] == descheduler {
		annotations := map[string]string{}
		for k, v := range vmi.Annotations {
			annotations[k] = v
		}
		annotations[v1.EvictionSourceAnnotation] = "descheduler"
		operations = append(operations, operation{"add", "/metadata/annotations", annotations})
	}
	data, err := json.Marshal(operations)
	if err != nil {
		return failed(fmt.Errorf("encode the evacuation: %w", err))
	}
	options := &client.PatchOptions{}
	if (r.DryRun != nil && *r.DryRun) || (eviction.DeleteOptions != nil && len(eviction.DeleteOptions.DryRun) > 0) {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if err := s.Client.Patch(ctx, vmi, client.RawPatch(types.JSONPatchType, data), options); err != nil {
		return failed(fmt.Errorf("mark VMI %s/%s for evacuation: %w", vmi.Namespace, vmi.Name, err))
	}
	return tooMany(triggered)
}

// validateHotplugEviction keeps the pods that hold hotplugged volumes where their VMI is: they go with it.
func (s *Server) validateHotplugEviction(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	pod, launcher := &corev1.Pod{}, &corev1.Pod{}
	steps := []struct {
		name func() string
		into client.Object
	}{
		{func() string { return r.Name }, pod},
		{func() string { return ownerOf(pod, "Pod") }, launcher},
	}
	for _, step := range steps {
		name := step.name()
		if name == "" {
			return nil
		}
		if err := s.get(ctx, r.Namespace, name, step.into); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return failed(fmt.Errorf("get pod %s: %w", name, err))
		}
	}
	name := ownerOf(launcher, "VirtualMachineInstance")
	if name == "" || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	vmi := &v1.VirtualMachineInstance{}
	if err := s.get(ctx, r.Namespace, name, vmi); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return failed(fmt.Errorf("get the pod's VMI: %w", err))
	}
	if vmi.IsFinal() {
		return nil
	}
	return tooMany(fmt.Sprintf("cannot evict hotplug pod: %s associated with running vmi: %s in namespace %s", pod.Name, vmi.Name, vmi.Namespace))
}

func ownerOf(pod *corev1.Pod, kind string) string {
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == kind {
		return owner.Name
	}
	return ""
}
