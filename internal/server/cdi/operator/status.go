package operator

import (
	"context"
	"strings"

	conditions "github.com/openshift/custom-resource-status/conditions/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	sdkapi "kubevirt.io/controller-lifecycle-operator-sdk/api"

	components "virtctl/internal/install/components/cdi"
	"virtctl/internal/version"
)

func targetVersion(opts components.Options) string {
	return version.Storage() + " (" + opts.Tag + ")"
}

// report fills the status with what is true now: the conditions follow the workloads, not the operator's intentions.
func (r *Reconciler) report(ctx context.Context, cdi *cdiv1.CDI, failure error) {
	status := &cdi.Status.Status
	status.OperatorVersion = version.Storage()
	r.ready.Set(0)
	switch {
	case cdi.DeletionTimestamp != nil:
		status.Phase = sdkapi.PhaseDeleting
		text := "removing CDI"
		if failure != nil {
			text = failure.Error()
		}
		set(status, conditions.ConditionAvailable, false, "DeletionInProgress", "being removed")
		set(status, conditions.ConditionProgressing, true, "DeletionInProgress", text)
		return
	case failure != nil:
		if status.Phase != sdkapi.PhaseDeployed {
			status.Phase = sdkapi.PhaseError
		}
		set(status, conditions.ConditionDegraded, true, "ReconcileFailed", failure.Error())
		return
	}
	opts := r.renderOptions(cdi)
	status.TargetVersion = targetVersion(opts)
	set(status, conditions.ConditionDegraded, false, "AsExpected", "nothing failed")
	waiting := r.unready(ctx, opts)
	if len(waiting) > 0 {
		text := strings.Join(waiting, "; ")
		switch {
		case status.ObservedVersion == "":
			status.Phase = sdkapi.PhaseDeploying
		case status.ObservedVersion != status.TargetVersion:
			status.Phase = sdkapi.PhaseUpgrading
		default:
			status.Phase = sdkapi.PhaseDeployed
		}
		set(status, conditions.ConditionAvailable, false, "DeployInProgress", text)
		set(status, conditions.ConditionProgressing, true, "DeployInProgress", text)
		return
	}
	r.ready.Set(1)
	status.Phase = sdkapi.PhaseDeployed
	status.ObservedVersion = status.TargetVersion
	set(status, conditions.ConditionAvailable, true, "DeployCompleted", "all components are ready")
	set(status, conditions.ConditionProgressing, false, "DeployCompleted", "all components are ready")
}

// unready says for each workload that is not wholly there what is missing.
func (r *Reconciler) unready(ctx context.Context, opts components.Options) []string {
	var out []string
	for _, d := range components.Workloads(opts) {
		text, err := r.waiting(ctx, d)
		if err != nil {
			text = err.Error()
		}
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}

func set(status *sdkapi.Status, kind conditions.ConditionType, truth bool, reason, message string) {
	wanted := conditions.Condition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	if truth {
		wanted.Status = corev1.ConditionTrue
	}
	now := metav1.Now()
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if c.Type != kind {
			continue
		}
		if c.Status == wanted.Status && c.Reason == reason && c.Message == message {
			return
		}
		wanted.LastTransitionTime, wanted.LastHeartbeatTime = c.LastTransitionTime, now
		if c.Status != wanted.Status {
			wanted.LastTransitionTime = now
		}
		*c = wanted
		return
	}
	wanted.LastTransitionTime, wanted.LastHeartbeatTime = now, now
	status.Conditions = append(status.Conditions, wanted)
}
