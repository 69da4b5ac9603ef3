package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/reason"
)

// absent tells whether an object does not exist, as opposed to its whole kind.
func absent(err error) bool { return apierrors.IsNotFound(err) && !problem.IsRouteMissing(err) }

// FromConditions says what the disk's own conditions complain about.
func FromConditions(s State) []string {
	var found []string
	add := func(why, message string) {
		text := strings.TrimSpace(message)
		switch {
		case text == "" || why == "Pending" || why == "NotFound":
			return
		case why != "":
			text += " (" + why + ")"
		}
		if !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	if s.DV != nil {
		for _, c := range s.DV.Status.Conditions {
			if c.Type == cdiv1.DataVolumeReady || c.Status == corev1.ConditionTrue || quiet(c.Reason) {
				continue
			}
			add(c.Reason, c.Message)
		}
	}
	if s.Claim != nil && !quiet(s.Claim.Annotations[names.AnnRunningCondition+names.SuffixReason]) && s.Claim.Annotations[names.AnnPodReady] != "true" {
		add(s.Claim.Annotations[names.AnnRunningCondition+names.SuffixReason], s.Claim.Annotations[names.AnnRunningCondition+names.SuffixMessage])
	}
	return found
}

// quiet reasons are part of every disk's life.
func quiet(why string) bool {
	switch why {
	case "Completed", "ContainerCreating", "PodInitializing", "Pod is running", "TransferRunning", "Bound", "Populator is running", "Claim Pending":
		return true
	}
	return false
}

// Workers gives the pods that fill the disk, or did.
func Workers(ctx context.Context, c *client.Client, namespace, claim string) ([]corev1.Pod, error) {
	list, err := c.Pods(namespace).List(ctx, client.ListOptions{LabelSelector: names.LabelComponent})
	if err != nil {
		return nil, fmt.Errorf("list the pods: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool {
		return !slices.ContainsFunc(pod.OwnerReferences, func(o metav1.OwnerReference) bool {
			return o.Kind == "PersistentVolumeClaim" && o.Name == claim
		})
	}), nil
}

// Events gives the events about the disk, its claims and its pods, oldest first.
func Events(ctx context.Context, c *client.Client, namespace string, objects ...string) ([]corev1.Event, error) {
	var events []corev1.Event
	for _, name := range objects {
		list, err := c.Events(namespace).List(ctx, client.ListOptions{FieldSelector: "involvedObject.name=" + name})
		if err != nil {
			return nil, fmt.Errorf("list the events: %w", err)
		}
		for _, e := range list.Items {
			if e.InvolvedObject.Kind != "VirtualMachine" && e.InvolvedObject.Kind != "VirtualMachineInstance" {
				events = append(events, e)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return reason.LastSeen(a).Compare(reason.LastSeen(b)) })
	return events, nil
}

// Names are the objects of a disk that events may be about.
func Names(s State, pods []corev1.Pod) []string {
	var found []string
	add := func(name string) {
		if name != "" && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	if s.DV != nil {
		add(s.DV.Name)
	}
	if s.Claim != nil {
		add(s.Claim.Name)
		add(s.Claim.Annotations[names.AnnPVCPrime])
	}
	for _, pod := range pods {
		add(pod.Name)
	}
	return found
}

// patience is how long finding a reason may take.
const patience = 5 * time.Second

// Why asks the cluster for everything that may explain a disk's state: conditions, pods, warnings.
func Why(ctx context.Context, c *client.Client, s State) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	found := FromConditions(s)
	namespace, name := "", ""
	switch {
	case s.Claim != nil:
		namespace, name = s.Claim.Namespace, s.Claim.Name
	case s.DV != nil:
		namespace, name = s.DV.Namespace, s.DV.Name
	default:
		return found
	}
	if s.Claim != nil && s.Claim.Status.Phase == corev1.ClaimPending {
		found = append(found, "the claim is not bound to a volume yet")
	}
	// Who may read disks may not always read pods and events; then the conditions have to do.
	pods, err := Workers(ctx, c, namespace, name)
	if err == nil {
		for _, pod := range pods {
			found = append(found, reason.FromPod(pod)...)
		}
	}
	events, err := Events(ctx, c, namespace, Names(s, pods)...)
	if err == nil {
		found = append(found, warnings(events)...)
	}
	return distinct(found)
}

// warnings gives the last distinct warnings.
func warnings(events []corev1.Event) []string {
	const most = 3
	var found []string
	for _, e := range slices.Backward(events) {
		text := strings.TrimSpace(e.Message) + " (" + e.Reason + ")"
		if e.Type == corev1.EventTypeWarning && !slices.Contains(found, text) {
			found = append(found, text)
		}
		if len(found) == most {
			break
		}
	}
	return found
}

// distinct leaves out what an earlier reason says already.
func distinct(reasons []string) []string {
	var kept []string
	for _, text := range reasons {
		core, _, _ := strings.Cut(text, " (")
		if !slices.ContainsFunc(kept, func(k string) bool { return strings.Contains(k, core) }) {
			kept = append(kept, text)
		}
	}
	return kept
}
