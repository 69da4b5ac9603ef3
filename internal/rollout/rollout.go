// Package rollout tells what a workload is still waiting for.
package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Waiting is "" when every pod of a Deployment or DaemonSet is ready at the newest template, else what is missing.
func Waiting(live client.Object) string {
	var desired, updated, ready int32
	var observed int64
	switch w := live.(type) {
	case *appsv1.Deployment:
		desired, updated, ready, observed = *w.Spec.Replicas, w.Status.UpdatedReplicas, w.Status.ReadyReplicas, w.Status.ObservedGeneration
		if w.Status.Replicas > updated {
			ready = min(ready, updated-1)
		}
	case *appsv1.DaemonSet:
		desired, updated, ready, observed = w.Status.DesiredNumberScheduled, w.Status.UpdatedNumberScheduled, w.Status.NumberReady, w.Status.ObservedGeneration
		if desired == 0 {
			return live.GetName() + " has no node to run on"
		}
	}
	if observed < live.GetGeneration() || updated < desired || ready < desired {
		return fmt.Sprintf("%s: %d of %d pods are ready", live.GetName(), max(min(ready, updated), 0), desired)
	}
	return ""
}
