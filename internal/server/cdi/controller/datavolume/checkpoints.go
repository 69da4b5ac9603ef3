package datavolume

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
)

// checkpointAnnotations tell the importer which stage of a multi-stage import to bring next. done are the claim's annotations so
// far. It is empty for imports in one piece and when all stages that are known are done.
func checkpointAnnotations(dv *cdi.DataVolume, done map[string]string) map[string]string {
	if len(dv.Spec.Checkpoints) == 0 {
		return nil
	}
	for i, c := range dv.Spec.Checkpoints {
		if done[names.AnnCheckpointsCopied+"."+c.Current] != "" {
			continue
		}
		last := i == len(dv.Spec.Checkpoints)-1 && dv.Spec.FinalCheckpoint
		return map[string]string{
			names.AnnCheckpointPrevious: c.Previous, names.AnnCheckpointCurrent: c.Current,
			names.AnnCheckpointFinal: strconv.FormatBool(last),
		}
	}
	return nil
}

// multiStage tells that the claim is filled stage by stage.
func multiStage(dv *cdi.DataVolume) bool { return len(dv.Spec.Checkpoints) > 0 }

// checkpoints goes to the next stage when one is done.
func (r *Reconciler) checkpoints(ctx context.Context, p *pass) error {
	if p.claim == nil || !multiStage(p.dv) || p.claim.Annotations[names.AnnMultiStageImportDone] == "true" {
		return nil
	}
	a := p.claim.Annotations
	current := a[names.AnnCheckpointCurrent]
	after := p.claim.DeepCopy()
	if current != "" {
		if a[names.AnnPodPhase] != string(corev1.PodSucceeded) {
			return nil
		}
		after.Annotations[names.AnnCheckpointsCopied+"."+current] = a[names.AnnCheckpointPodID]
	}
	final := a[names.AnnCheckpointFinal] == "true" && current != ""
	for key := range a {
		if strings.HasPrefix(key, names.AnnRunningCondition) {
			delete(after.Annotations, key)
		}
	}
	delete(after.Annotations, names.AnnImportPod)
	next := checkpointAnnotations(p.dv, after.Annotations)
	switch {
	case final || len(next) == 0 && p.dv.Spec.FinalCheckpoint:
		after.Annotations[names.AnnMultiStageImportDone] = "true"
		after.Annotations[names.AnnPodPhase] = string(corev1.PodSucceeded)
		delete(after.Annotations, names.AnnCheckpointCurrent)
	case len(next) == 0:
		delete(after.Annotations, names.AnnCheckpointCurrent)
		delete(after.Annotations, names.AnnCheckpointPrevious)
		delete(after.Annotations, names.AnnCheckpointFinal)
	default:
		for key, value := range next {
			after.Annotations[key] = value
		}
		delete(after.Annotations, names.AnnPodPhase)
	}
	wrote, err := r.claims.Patch(ctx, p.claim, after)
	if err != nil {
		return fmt.Errorf("go on to the next checkpoint of %s: %w", p.claim.Name, err)
	}
	if wrote {
		p.claim = after
	}
	return nil
}

// paused tells that all stages known so far are done and more will come.
func paused(p *pass) bool {
	return multiStage(p.dv) && p.claim != nil && p.claim.Annotations[names.AnnCheckpointCurrent] == "" &&
		p.claim.Annotations[names.AnnMultiStageImportDone] != "true"
}
