// Package reason finds out why a virtual machine is not what the user wants it to be.
package reason

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
)

// good lists the conditions that are healthy when true; those not listed are healthy when false.
func good(kind string) (healthy corev1.ConditionStatus, known bool) {
	switch kind {
	case "Ready", "LiveMigratable", "StorageLiveMigratable", "AgentConnected", "DataVolumesReady", "PodScheduled", "Initialized",
		"AccessCredentialsSynchronized", string(kubevirtv1.VirtualMachineInstanceSynchronized):
		return corev1.ConditionTrue, true
	case "Failure", "RestartRequired", "ManualRecoveryRequired", "Paused", "Provisioning", "AgentVersionNotSupported":
		return corev1.ConditionFalse, true
	}
	return corev1.ConditionTrue, false
}

// quiet conditions are facts rather than faults: they explain nothing about a machine that does not start.
func quiet(kind string) bool {
	switch kind {
	case "LiveMigratable", "StorageLiveMigratable", "AgentConnected", "AgentVersionNotSupported", "AccessCredentialsSynchronized", "Provisioning", "Initialized":
		return true
	}
	return false
}

// FromConditions says what the machine's own conditions complain about, the most telling first.
func FromConditions(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) []string {
	var found []string
	add := func(kind string, status corev1.ConditionStatus, why, message string) {
		healthy, known := good(kind)
		if !known || quiet(kind) || status == healthy || status == corev1.ConditionUnknown || why == "VMINotExists" || why == "GuestNotRunning" {
			return
		}
		text := strings.TrimSpace(message)
		switch {
		case text == "":
			text = why
		case why != "":
			text += " (" + why + ")"
		}
		if text = strings.TrimSpace(text); text == "" {
			text = fmt.Sprintf("condition %s is %s", kind, status)
		}
		if !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	if vmi != nil {
		for _, c := range vmi.Status.Conditions {
			add(string(c.Type), c.Status, c.Reason, c.Message)
		}
		if vmi.Status.Reason != "" {
			found = append(found, vmi.Status.Reason)
		}
	}
	if vm != nil {
		for _, c := range vm.Status.Conditions {
			add(string(c.Type), c.Status, c.Reason, c.Message)
		}
		if f := vm.Status.StartFailure; f != nil && f.ConsecutiveFailCount > 0 {
			found = append(found, fmt.Sprintf("starting failed %d times in a row, tried again %s", f.ConsecutiveFailCount, retry(f)))
		}
	}
	return found
}

func retry(f *kubevirtv1.VirtualMachineStartFailure) string {
	if f.RetryAfterTimestamp == nil {
		return "soon"
	}
	return "after " + f.RetryAfterTimestamp.Local().Format(time.TimeOnly)
}

// Events gives the events about an object and, for a machine, about its launcher pod, oldest first.
func Events(ctx context.Context, c *client.Client, namespace, name string) ([]corev1.Event, error) {
	pods, err := LauncherPods(ctx, c, namespace, name)
	if err != nil {
		return nil, err
	}
	names := []string{name}
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	var events []corev1.Event
	for _, object := range names {
		list, err := c.Events(namespace).List(ctx, client.ListOptions{FieldSelector: "involvedObject.name=" + object})
		if err != nil {
			return nil, fmt.Errorf("list events: %w", err)
		}
		events = append(events, list.Items...)
	}
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return LastSeen(a).Compare(LastSeen(b)) })
	return events, nil
}

// LastSeen is when an event happened last.
func LastSeen(e corev1.Event) time.Time {
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time, e.FirstTimestamp.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp.Time
}

// LauncherPods gives a machine's pods, the newest first.
func LauncherPods(ctx context.Context, c *client.Client, namespace, name string) ([]corev1.Pod, error) {
	list, err := c.Pods(namespace).List(ctx, client.ListOptions{LabelSelector: "kubevirt.io=virt-launcher"})
	if err != nil {
		return nil, fmt.Errorf("list the launcher pods: %w", err)
	}
	pods := slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return !ownedBy(pod, name) })
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Compare(b.CreationTimestamp.UnixNano(), a.CreationTimestamp.UnixNano())
	})
	return pods, nil
}

func ownedBy(pod corev1.Pod, vmi string) bool {
	return slices.ContainsFunc(pod.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.Controller != nil && *o.Controller && o.Kind == "VirtualMachineInstance" && o.Name == vmi
	})
}

// FromPod says what keeps a launcher pod from running.
func FromPod(pod corev1.Pod) []string {
	var found []string
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			found = append(found, fmt.Sprintf("the pod cannot be placed: %s", c.Message))
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
			found = append(found, strings.TrimSpace(fmt.Sprintf("container %s: %s %s", s.Name, w.Reason, w.Message)))
		}
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			found = append(found, strings.TrimSpace(fmt.Sprintf("container %s ended with %d: %s %s", s.Name, t.ExitCode, t.Reason, t.Message)))
		}
	}
	return found
}

// Gather asks the cluster for everything that may explain a machine's state: conditions, pods, warnings.
func Gather(ctx context.Context, c *client.Client, vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) []string {
	found := FromConditions(vm, vmi)
	namespace, name := "", ""
	switch {
	case vmi != nil:
		namespace, name = vmi.Namespace, vmi.Name
	case vm != nil:
		namespace, name = vm.Namespace, vm.Name
	default:
		return found
	}
	// Who may read machines may not always read pods and events; then the conditions have to do.
	pods, err := LauncherPods(ctx, c, namespace, name)
	if err != nil {
		return found
	}
	for _, pod := range pods {
		found = append(found, FromPod(pod)...)
	}
	events, err := Events(ctx, c, namespace, name)
	if err != nil {
		return distinct(found)
	}
	return distinct(append(found, warnings(events)...))
}

// distinct leaves out what an earlier reason says already, with other words around it.
func distinct(reasons []string) []string {
	var kept []string
	for _, text := range reasons {
		if !slices.ContainsFunc(kept, func(k string) bool { return strings.Contains(k, coreOf(text)) || strings.Contains(text, coreOf(k)) }) {
			kept = append(kept, text)
		}
	}
	return kept
}

func coreOf(text string) string {
	core, _, _ := strings.Cut(text, " (")
	return core
}

// warnings gives the last distinct warnings.
func warnings(events []corev1.Event) []string {
	const most = 3
	var found []string
	for _, e := range slices.Backward(events) {
		text := fmt.Sprintf("%s (%s)", strings.TrimSpace(e.Message), e.Reason)
		if e.Type == corev1.EventTypeWarning && !slices.Contains(found, text) {
			found = append(found, text)
		}
		if len(found) == most {
			break
		}
	}
	return found
}
