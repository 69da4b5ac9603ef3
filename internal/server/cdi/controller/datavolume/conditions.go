package datavolume

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
)

// state is one condition's value.
type state struct {
	status          corev1.ConditionStatus
	reason, message string
}

// conditions writes the three conditions of a DataVolume from its phase and its claim. why stands in for a claim that is not there, and
// tells what keeps one that is.
func conditions(dv *cdi.DataVolume, claim *corev1.PersistentVolumeClaim, why state, now time.Time) {
	ready := state{status: corev1.ConditionFalse}
	switch dv.Status.Phase {
	case cdi.Succeeded:
		ready.status = corev1.ConditionTrue
	case cdi.Unknown:
		ready.status = corev1.ConditionUnknown
	}
	bound := boundState(claim, why)
	if claim == nil {
		ready.reason, ready.message = why.reason, why.message
	}
	running := state{status: corev1.ConditionFalse}
	if claim != nil {
		running = runningState(claim.Annotations)
	}
	if bound.status != corev1.ConditionTrue && dv.Status.Phase != cdi.Succeeded {
		ready.status = corev1.ConditionFalse
	}
	if running.status == corev1.ConditionTrue && dv.Status.Phase != cdi.Succeeded {
		ready = state{corev1.ConditionFalse, names.ReasonTransferRunning, ""}
	}
	setCondition(dv, cdi.DataVolumeReady, ready, now)
	setCondition(dv, cdi.DataVolumeBound, bound, now)
	setCondition(dv, cdi.DataVolumeRunning, running, now)
}

func boundState(claim *corev1.PersistentVolumeClaim, why state) state {
	if claim == nil {
		if why.reason == "" {
			why.reason, why.message = names.ReasonNotFound, "No PVC found"
		}
		return state{corev1.ConditionFalse, why.reason, why.message}
	}
	own, told := annotated(claim.Annotations, names.AnnBoundCondition)
	told = told && own.status != corev1.ConditionTrue
	switch claim.Status.Phase {
	case corev1.ClaimBound:
		if told {
			return state{corev1.ConditionFalse, own.reason, own.message}
		}
		return state{corev1.ConditionTrue, names.ReasonBound, fmt.Sprintf("PVC %s Bound", claim.Name)}
	case corev1.ClaimPending:
		if told {
			prime := ""
			if name := claim.Annotations[names.AnnPVCPrime]; name != "" {
				prime = "[" + name + "] : "
			}
			return state{corev1.ConditionFalse, own.reason, fmt.Sprintf("target PVC %s Pending and %s%s", claim.Name, prime, own.message)}
		}
		message := fmt.Sprintf("PVC %s Pending", claim.Name)
		if why.message != "" {
			message += ": " + why.message
		}
		return state{corev1.ConditionFalse, names.ReasonPending, message}
	case corev1.ClaimLost:
		return state{corev1.ConditionFalse, names.ReasonClaimLost, "Claim Lost"}
	}
	return state{status: corev1.ConditionFalse}
}

// runningState joins what the workers on both ends of a transfer do. Imports and uploads have one end.
func runningState(a map[string]string) state {
	target, known := annotated(a, names.AnnRunningCondition)
	if a[names.AnnPodSchedulable] == "false" {
		message := "Importer pod cannot be scheduled"
		if target.message != "" {
			message += ": " + target.message
		}
		return state{corev1.ConditionFalse, names.ReasonUnschedulable, message}
	}
	if !known {
		target.status = corev1.ConditionFalse
	}
	source, two := annotated(a, names.AnnSourceRunningCondition)
	switch {
	case !two:
		return target
	case target.status == corev1.ConditionTrue:
		if source.status == corev1.ConditionTrue {
			return target
		}
		return source
	case source.status == corev1.ConditionTrue:
		return target
	}
	return state{corev1.ConditionFalse, join(target.reason, source.reason), join(target.message, source.message)}
}

func join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "" || a == b:
		return a
	}
	return a + " and " + b
}

// annotated reads a condition from a claim's annotations.
func annotated(a map[string]string, prefix string) (state, bool) {
	value, known := a[prefix]
	s := state{corev1.ConditionUnknown, a[prefix+names.SuffixReason], a[prefix+names.SuffixMessage]}
	switch strings.ToLower(value) {
	case "true":
		s.status = corev1.ConditionTrue
	case "false":
		s.status = corev1.ConditionFalse
	}
	return s, known
}

func find(dv *cdi.DataVolume, t cdi.DataVolumeConditionType) *cdi.DataVolumeCondition {
	for i := range dv.Status.Conditions {
		if dv.Status.Conditions[i].Type == t {
			return &dv.Status.Conditions[i]
		}
	}
	return nil
}

func setCondition(dv *cdi.DataVolume, t cdi.DataVolumeConditionType, s state, now time.Time) {
	c := find(dv, t)
	if c == nil {
		dv.Status.Conditions = append(dv.Status.Conditions, cdi.DataVolumeCondition{Type: t})
		c = find(dv, t)
	}
	if c.Status == s.status && c.Reason == s.reason && c.Message == s.message {
		return
	}
	c.LastHeartbeatTime = metav1.NewTime(now)
	if c.Status != s.status {
		c.LastTransitionTime = c.LastHeartbeatTime
	}
	c.Status, c.Reason, c.Message = s.status, s.reason, s.message
}
