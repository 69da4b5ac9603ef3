package claim

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/cdi/names"
)

func podWith(phase corev1.PodPhase, s *corev1.ContainerStatus) *corev1.Pod {
	pod := &corev1.Pod{Status: corev1.PodStatus{Phase: phase}}
	if s != nil {
		s.Name, s.Image = names.ComponentImporter, "image:1"
		mesh := corev1.ContainerStatus{Name: "istio-proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{mesh, *s}
	}
	return pod
}

func message(text string) names.TerminationMessage { return names.TerminationMessage{Message: &text} }

func encoded(m names.TerminationMessage) string {
	text, err := m.Encode()
	if err != nil {
		panic(err)
	}
	return string(text)
}

// What people read in a DataVolume's condition Running, for each thing that can happen to a worker.
func TestObserve(t *testing.T) {
	yes := true
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	terminated := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: reason, Message: message}}
	}
	unschedulable := podWith(corev1.PodPending, nil)
	unschedulable.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes are available",
	}}
	for name, test := range map[string]struct {
		pod                     *corev1.Pod
		status, reason, message string
	}{
		"nothing yet":   {podWith(corev1.PodPending, nil), "", "", ""},
		"no node":       {unschedulable, "false", "Unschedulable", "0/3 nodes are available"},
		"starts":        {podWith(corev1.PodPending, &corev1.ContainerStatus{State: waiting("ContainerCreating", "")}), "false", "ContainerCreating", ""},
		"no image":      {podWith(corev1.PodPending, &corev1.ContainerStatus{State: waiting("ImagePullBackOff", "long")}), "false", "ImagePullFailed", "failed to pull image: image:1"},
		"runs":          {podWith(corev1.PodRunning, &corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}), "true", "Pod is running", ""},
		"failed":        {podWith(corev1.PodRunning, &corev1.ContainerStatus{State: terminated("Error", encoded(message("Unable to process data: 404")))}), "false", "Error", "Unable to process data: 404"},
		"full":          {podWith(corev1.PodRunning, &corev1.ContainerStatus{State: terminated("Error", "write /data/disk.img: no space left on device")}), "false", "Error", names.MessageTooSmall},
		"own reason":    {podWith(corev1.PodRunning, &corev1.ContainerStatus{State: terminated("Completed", encoded(names.TerminationMessage{Reason: "ChecksumError", Fatal: true}))}), "false", "ChecksumError", ""},
		"wants scratch": {podWith(corev1.PodRunning, &corev1.ContainerStatus{State: terminated("Completed", encoded(names.TerminationMessage{ScratchSpaceRequired: &yes}))}), "false", "Scratch space required", names.MessageScratch},
		"waits to try again": {podWith(corev1.PodRunning, &corev1.ContainerStatus{
			State: waiting("CrashLoopBackOff", "back-off 10s"), LastTerminationState: terminated("Error", encoded(message("refused"))),
		}), "false", "Error", "refused"},
	} {
		a := map[string]string{}
		observe(a, test.pod, names.AnnRunningCondition)
		if a[names.AnnRunningCondition] != test.status || a[names.AnnRunningCondition+names.SuffixReason] != test.reason || a[names.AnnRunningCondition+names.SuffixMessage] != test.message {
			t.Errorf("%s: %v", name, a)
		}
	}
}

// Restarts count over all pods that worked on the claim.
func TestRestarts(t *testing.T) {
	pod := podWith(corev1.PodRunning, &corev1.ContainerStatus{RestartCount: 2})
	pod.Annotations = map[string]string{names.AnnPodRestarts: "3"}
	if n := restarts(pod); n != 5 {
		t.Errorf("%d", n)
	}
}

// An image may say which machines it suits, and nothing else.
func TestLabels(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{names.LabelDefaultPreference: "mine"}}}
	labels(claim, &names.TerminationMessage{Labels: map[string]string{
		names.LabelDefaultPreference: "theirs", names.LabelDefaultInstancetype: "u1.small", "kubernetes.io/evil": "x",
		"kubevirt.io/" + string(make([]byte, 70)): "x", "instancetype.kubevirt.io/bad": "not a label value!",
	}})
	if len(claim.Labels) != 3 || claim.Labels[names.LabelDefaultPreference] != "mine" || claim.Labels[names.LabelDefaultInstancetype] != "u1.small" {
		t.Errorf("%v", claim.Labels)
	}
}

// A claim is worked on for exactly one reason.
func TestJob(t *testing.T) {
	for want, a := range map[job]map[string]string{
		nothing:   {names.AnnExternalPopulation: "", names.AnnSource: "http"},
		importing: {names.AnnEndpoint: "https://x"},
		uploading: {names.AnnUploadRequest: ""},
		cloning:   {names.AnnCloneRequest: "a/b", names.AnnUploadRequest: ""},
	} {
		if got := jobOf(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: a}}); got != want {
			t.Errorf("%v: %v", a, got)
		}
	}
}
