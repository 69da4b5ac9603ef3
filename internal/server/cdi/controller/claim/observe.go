package claim

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/cdi/names"
)

// Words of the contract about pods.
const (
	reasonRunning    = "Pod is running"
	reasonPullFailed = "ImagePullFailed"
	reasonScratch    = "Scratch space required"
	messagePull      = "failed to pull image"
	crashLoop        = "CrashLoopBackOff"
	yes, no          = "true", "false"
)

// annScratchBytes is how much scratch space the worker asked for.
const annScratchBytes = "virtctl.io/scratch-bytes"

// end is how a worker's last run ended.
type end struct {
	code    int32
	reason  string
	message names.TerminationMessage
}

// lastEnd gives the end of the worker's last run, unless it runs or never ran.
func lastEnd(pod *corev1.Pod) *end {
	if len(pod.Status.ContainerStatuses) == 0 {
		return nil
	}
	s := worker(pod)
	t := s.State.Terminated
	if t == nil && s.State.Waiting != nil {
		t = s.LastTerminationState.Terminated
	}
	if t == nil {
		return nil
	}
	return &end{t.ExitCode, t.Reason, names.ParseTermination(t.Message)}
}

// worker is the status of the container that works on the claim; there may be others of service meshes.
func worker(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		switch s.Name {
		case names.ComponentImporter, names.ComponentUploadServer, names.ComponentCloneSource:
			return s
		}
	}
	return &pod.Status.ContainerStatuses[0]
}

// observe writes onto a claim's annotations what its pod is doing, under one of the two conditions.
func observe(a map[string]string, pod *corev1.Pod, prefix string) {
	setCondition := func(status, reason, message string) {
		a[prefix], a[prefix+names.SuffixReason], a[prefix+names.SuffixMessage] = status, reason, message
	}
	if len(pod.Status.ContainerStatuses) == 0 {
		if message, stuck := unschedulable(pod); stuck {
			setCondition(no, names.ReasonUnschedulable, message)
		}
		return
	}
	s := worker(pod)
	switch {
	case s.State.Running != nil:
		setCondition(yes, reasonRunning, "")
	case s.State.Waiting != nil && pullFailed(s.State.Waiting.Reason):
		setCondition(no, reasonPullFailed, messagePull+": "+s.Image)
	case s.State.Waiting != nil && s.State.Waiting.Reason != crashLoop:
		setCondition(no, s.State.Waiting.Reason, simple(s.State.Waiting.Message))
	default:
		if e := lastEnd(pod); e != nil {
			reason, message := e.explain()
			setCondition(no, reason, message)
		}
	}
}

func pullFailed(reason string) bool {
	switch reason {
	case "ImagePullBackOff", "ErrImagePull", "InvalidImageName":
		return true
	}
	return false
}

// explain gives the condition's reason and message.
func (e *end) explain() (reason, message string) {
	if yes := e.message.ScratchSpaceRequired; yes != nil && *yes {
		return reasonScratch, names.MessageScratch
	}
	reason = e.message.Reason
	if reason == "" {
		reason = e.reason
	}
	return reason, simple(e.message.Text())
}

// simple replaces what several layers say about full disks by words for the person who chose the size.
func simple(message string) string {
	for _, full := range []string{
		"is larger than the reported available", "no space left on device", "file largest block is bigger than maxblock", "disk quota exceeded",
	} {
		if strings.Contains(strings.ToLower(message), full) {
			return names.MessageTooSmall
		}
	}
	return message
}

// unschedulable gives the scheduler's reason for leaving a pod alone.
func unschedulable(pod *corev1.Pod) (string, bool) {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return c.Message, true
		}
	}
	return "", false
}

// restarts counts how often the work began anew: in this pod, and in those before it.
func restarts(pod *corev1.Pod) int {
	before, _ := strconv.Atoi(pod.Annotations[names.AnnPodRestarts])
	if len(pod.Status.ContainerStatuses) == 0 {
		return before
	}
	return before + int(worker(pod).RestartCount)
}

// ready tells whether clients can reach the pod.
func ready(pod *corev1.Pod) bool {
	for i := range pod.Status.ContainerStatuses {
		if !pod.Status.ContainerStatuses[i].Ready {
			return false
		}
	}
	return len(pod.Status.ContainerStatuses) > 0
}

// outcome notes what a finished worker found out.
func outcome(claim *corev1.PersistentVolumeClaim, m *names.TerminationMessage) {
	a := claim.Annotations
	if m.PreallocationApplied != nil && *m.PreallocationApplied {
		a[names.AnnPreallocationApplied] = yes
	}
	if m.VddkInfo != nil {
		set(a, names.AnnVddkHost, m.VddkInfo.Host)
		set(a, names.AnnVddkVersion, m.VddkInfo.Version)
	}
	set(a, names.AnnContentDigest, m.Digest)
	if m.Length > 0 {
		a[names.AnnContentLength] = fmt.Sprint(m.Length)
	}
}

// labels takes over what the image says about itself (default instance type and the like); what the claim has stays.
func labels(claim *corev1.PersistentVolumeClaim, m *names.TerminationMessage) {
	if claim.Labels == nil {
		claim.Labels = map[string]string{}
	}
	claim.Labels[names.LabelApp] = names.LabelAppValue
	for key, value := range m.Labels {
		if _, taken := claim.Labels[key]; !taken && allowedLabel(key, value) {
			claim.Labels[key] = value
		}
	}
}

func set(a map[string]string, key, value string) {
	if value != "" {
		a[key] = value
	}
}
