package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"virtctl/internal/install/components"
	"virtctl/internal/rollout"
	"virtctl/internal/version"
)

func targetVersion(opts components.Options) string {
	return version.Get().GitVersion + " (" + opts.Tag + ")"
}

// report fills the status with what is true now: the conditions follow the workloads, not the operator's intentions.
func (r *Reconciler) report(ctx context.Context, kv *v1.KubeVirt, want plan, failure error) {
	status := &kv.Status
	status.OperatorVersion = version.Get().GitVersion
	status.DefaultArchitecture = "amd64"
	generation := kv.Generation
	status.ObservedGeneration = &generation
	if kv.DeletionTimestamp != nil {
		status.Phase = v1.KubeVirtPhaseDeleting
		set(status, v1.KubeVirtConditionAvailable, false, "DeletionInProgress", "being removed")
		set(status, v1.KubeVirtConditionProgressing, true, "DeletionInProgress", waitingText(failure, "removing the platform"))
		return
	}
	if failure != nil {
		set(status, v1.KubeVirtConditionSynchronized, false, "ReconcileFailed", failure.Error())
		set(status, v1.KubeVirtConditionDegraded, true, "ReconcileFailed", failure.Error())
		return
	}
	opts := want.Options
	status.TargetKubeVirtVersion, status.TargetKubeVirtRegistry = targetVersion(opts), opts.Registry
	set(status, v1.KubeVirtConditionSynchronized, true, "ReconcileCompleted", "all objects are as they should be")
	set(status, v1.KubeVirtConditionCreated, true, "AllResourcesCreated", "all resources are created")
	if want.missing != "" {
		set(status, v1.KubeVirtConditionDegraded, true, "MigrationNetworkMissing", want.missing)
	} else {
		set(status, v1.KubeVirtConditionDegraded, false, "AsExpected", "nothing failed")
	}
	waiting := r.unready(ctx, opts)
	if len(waiting) > 0 {
		text := strings.Join(waiting, "; ")
		set(status, v1.KubeVirtConditionAvailable, false, "DeploymentInProgress", text)
		set(status, v1.KubeVirtConditionProgressing, true, "DeploymentInProgress", text)
		return
	}
	status.Phase = v1.KubeVirtPhaseDeployed
	status.ObservedKubeVirtVersion, status.ObservedKubeVirtRegistry = status.TargetKubeVirtVersion, opts.Registry
	set(status, v1.KubeVirtConditionAvailable, true, "AllComponentsReady", "all components are ready")
	set(status, v1.KubeVirtConditionProgressing, false, "AllComponentsReady", "all components are ready")
}

func waitingText(failure error, otherwise string) string {
	if failure != nil {
		return failure.Error()
	}
	return otherwise
}

// unready says for each workload that is not wholly there what is missing.
func (r *Reconciler) unready(ctx context.Context, opts components.Options) []string {
	var out []string
	for _, obj := range []client.Object{components.API(opts), components.Controller(opts), components.Handler(opts)} {
		text, err := r.rollout(ctx, obj)
		if err != nil {
			text = err.Error()
		}
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}

// rollout tells what a workload is still waiting for, or "" when every pod is ready at the newest template.
func (r *Reconciler) rollout(ctx context.Context, want client.Object) (string, error) {
	live, ok := want.DeepCopyObject().(client.Object)
	if !ok {
		return "", fmt.Errorf("%T is not an object", want)
	}
	found, err := r.get(ctx, live)
	if err != nil {
		return "", err
	}
	if !found {
		return want.GetName() + " does not exist yet", nil
	}
	return rollout.Waiting(live), nil
}

func set(status *v1.KubeVirtStatus, kind v1.KubeVirtConditionType, truth bool, reason, message string) {
	value := corev1.ConditionFalse
	if truth {
		value = corev1.ConditionTrue
	}
	now := metav1.Now()
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if c.Type != kind {
			continue
		}
		if c.Status != value {
			c.LastTransitionTime = now
		}
		if c.Status != value || c.Reason != reason || c.Message != message {
			c.LastProbeTime = now
		}
		c.Status, c.Reason, c.Message = value, reason, message
		return
	}
	status.Conditions = append(status.Conditions, v1.KubeVirtCondition{
		Type: kind, Status: value, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now,
	})
}

func statusEqual(a, b *v1.KubeVirt) bool { return equality.Semantic.DeepEqual(a.Status, b.Status) }

func sameFinalizers(a, b *v1.KubeVirt) bool { return slices.Equal(a.Finalizers, b.Finalizers) }

// cameOrWent ignores everything about nodes but their number.
type cameOrWent struct{ predicate.Funcs }

func (cameOrWent) Update(event.UpdateEvent) bool { return false }
