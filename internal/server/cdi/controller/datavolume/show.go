package datavolume

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/claim"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/progress"
)

// progressDone and progressUnknown are the contract's words.
const (
	progressDone    = "100.0%"
	progressUnknown = "N/A"
)

// show computes the status.
func (r *Reconciler) show(ctx context.Context, p *pass) {
	s := &p.dv.Status
	if p.claim != nil {
		s.ClaimName = p.claim.Name
		if n, err := strconv.ParseInt(p.claim.Annotations[names.AnnPodRestarts], 10, 32); err == nil && n >= 0 {
			s.RestartCount = int32(n)
		}
		if s.Progress == "" {
			s.Progress = progressUnknown
		}
	}
	s.Phase = p.phase()
	switch s.Phase {
	case cdi.Succeeded:
		if p.source.kind.name != "Upload" {
			s.Progress = progressDone
		}
	case cdi.ImportInProgress, cdi.CloneInProgress, cdi.ImportScheduled, cdi.CloneScheduled:
		r.showProgress(ctx, p)
	}
	why := p.why
	if p.claim != nil {
		why = state{message: p.stuck}
	}
	conditions(p.dv, p.claim, why, r.Now())
}

// phase tells where the DataVolume is in its life.
func (p *pass) phase() cdi.DataVolumePhase {
	if p.claim == nil {
		switch {
		case p.before.Status.Phase == cdi.Succeeded:
			return cdi.Succeeded
		case p.now != "" && p.why.reason == "":
			return p.now
		}
		return cdi.Pending
	}
	a := p.claim.Annotations
	k := &p.source.kind
	switch {
	case a[names.AnnImportFatalError] == "true":
		return cdi.Failed
	case p.claim.Status.Phase == corev1.ClaimLost:
		return cdi.Failed
	case paused(p):
		return cdi.Paused
	case p.done, a[names.AnnPodPhase] == string(corev1.PodSucceeded) && !multiStage(p.dv), a[names.AnnMultiStageImportDone] == "true":
		return cdi.Succeeded
	case p.before.Status.Phase == cdi.Succeeded:
		return cdi.Succeeded
	}
	if smart := p.smartPhase(); smart != "" {
		return smart
	}
	switch corev1.PodPhase(a[names.AnnPodPhase]) {
	case corev1.PodPending, corev1.PodFailed:
		return k.scheduled
	case corev1.PodRunning:
		if k.readyCounts && a[names.AnnPodReady] != "true" {
			return k.scheduled
		}
		return k.running
	}
	switch p.claim.Status.Phase {
	case corev1.ClaimBound:
		return cdi.PVCBound
	case corev1.ClaimPending, "":
		if p.waits {
			return cdi.WaitForFirstConsumer
		}
		return cdi.Pending
	}
	return cdi.Unknown
}

// wait finds out whether the claim waits for somebody to use it.
func (r *Reconciler) wait(ctx context.Context, p *pass) error {
	if p.claim == nil || p.claim.Status.Phase == corev1.ClaimBound || p.done {
		return nil
	}
	late, err := claim.BindsLate(ctx, r.Client, p.claim.Spec.StorageClassName)
	if err != nil {
		return fmt.Errorf("read the storage class of %s: %w", p.claim.Name, err)
	}
	p.waits = late && claim.HonorsWait(p.settings, p.claim)
	if late && (external(p) || smart(chosen(p.claim))) {
		// Nobody of ours will use it: its first consumer starts whoever fills it.
		p.waits = true
	}
	return nil
}

// showProgress asks the worker, and comes back as long as it runs.
func (r *Reconciler) showProgress(ctx context.Context, p *pass) {
	pod, err := r.reporter(ctx, p)
	if err != nil || pod == nil || pod.Status.Phase != corev1.PodRunning {
		return
	}
	p.again = progress.Interval
	if percent, known := r.Progress.Of(ctx, pod, string(p.dv.UID)); known {
		p.dv.Status.Progress = cdi.DataVolumeProgress(progress.Text(percent))
	}
}

// reporter is the pod that knows how far the transfer is.
func (r *Reconciler) reporter(ctx context.Context, p *pass) (*corev1.Pod, error) {
	if p.source.clones() {
		var list corev1.PodList
		if err := r.Client.List(ctx, &list, client.MatchingFields{index.CloneTarget: string(p.claim.UID)}); err != nil || len(list.Items) == 0 {
			return nil, err
		}
		return &list.Items[0], nil
	}
	pod := &corev1.Pod{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.claim.Namespace, Name: p.claim.Annotations[names.AnnImportPod]}, pod)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return pod, err
}

// tell sends the events of what changed.
func (r *Reconciler) tell(p *pass) {
	before, after := &p.before.Status, &p.dv.Status
	event := func(kind, reason, message string) {
		if reason != "" && message != "" {
			r.Recorder.Event(p.dv, kind, reason, message)
		}
	}
	if before.Phase != after.Phase {
		event(p.phaseEvent())
	}
	bound, was := find(p.dv, cdi.DataVolumeBound), find(p.before, cdi.DataVolumeBound)
	if bound != nil && (was == nil || was.Reason != bound.Reason || was.Message != bound.Message) {
		kind := corev1.EventTypeNormal
		if p.why.reason != "" && p.why.reason != names.ReasonNotFound {
			kind = corev1.EventTypeWarning
		}
		event(kind, bound.Reason, bound.Message)
	}
	running, was := find(p.dv, cdi.DataVolumeRunning), find(p.before, cdi.DataVolumeRunning)
	failing := running != nil && running.Status == corev1.ConditionFalse && after.Phase != cdi.Succeeded && running.Message != names.MessageScratch
	if failing && (was == nil || was.Message != running.Message) {
		event(corev1.EventTypeWarning, running.Reason, running.Message)
	}
}

// phaseEvent is what the new phase is announced with.
func (p *pass) phaseEvent() (kind, reason, message string) {
	k := &p.source.kind
	name := p.dv.Name
	if p.claim != nil {
		name = p.claim.Name
	}
	if k.name == "Clone" {
		name = p.dv.Namespace + "/" + name
	}
	switch p.dv.Status.Phase {
	case k.scheduled:
		return corev1.EventTypeNormal, string(k.scheduled), fmt.Sprintf(k.onScheduled, name)
	case k.running:
		return corev1.EventTypeNormal, string(k.running), fmt.Sprintf(k.onRunning, name)
	case cdi.Succeeded:
		return corev1.EventTypeNormal, k.name + "Succeeded", fmt.Sprintf(k.onSucceeded, name)
	case cdi.Failed:
		if p.claim != nil && p.claim.Status.Phase == corev1.ClaimLost {
			return corev1.EventTypeWarning, names.EventErrClaimLost, fmt.Sprintf("PVC %s lost", name)
		}
		return corev1.EventTypeWarning, k.name + "Failed", fmt.Sprintf(k.onFailed, name)
	case cdi.Paused:
		return corev1.EventTypeNormal, names.EventImportPaused, fmt.Sprintf("Multistage import into PVC %s is paused", name)
	}
	return p.smartEvent()
}

// Pending counts the DataVolumes that wait for a default storage class. It reads the cache, when Prometheus asks.
func Pending(c client.Reader) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var list cdi.DataVolumeList
	if err := c.List(ctx, &list); err != nil {
		return 0 // not leading: the cache is not there
	}
	count := 0
	for i := range list.Items {
		dv := &list.Items[i]
		if dv.Status.Phase != cdi.Pending && dv.Status.Phase != cdi.PhaseUnset {
			continue
		}
		spec := &dv.Spec
		if spec.Storage != nil && spec.Storage.StorageClassName == nil || spec.PVC != nil && spec.PVC.StorageClassName == nil {
			count++
		}
	}
	return float64(count)
}
