// Package datavolume makes the claims of DataVolumes, says on them how to be filled, and shows on the DataVolumes how far that is.
package datavolume

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/appear"
	"virtctl/internal/server/cdi/controller/clonetoken"
	"virtctl/internal/server/cdi/controller/progress"
	"virtctl/internal/server/cdi/controller/settings"
	"virtctl/internal/server/writer"
)

// Options are what the reconciler works with.
type Options struct {
	Client client.Client
	// Live reads what is not worth caching.
	Live     client.Reader
	Recorder record.EventRecorder
	Settings *settings.Source
	Tokens   *clonetoken.Keeper
	Progress *progress.Scraper
	// Snapshots are VolumeSnapshots, should the cluster have them.
	Snapshots *appear.Kind
	Now       func() time.Time
}

// Reconciler works on DataVolumes.
type Reconciler struct {
	Options
	volumes *writer.Writer
	claims  *writer.Writer
}

// New gives a Reconciler.
func New(o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reconciler{Options: o, volumes: writer.New(o.Client), claims: writer.New(o.Client)}
}

// pass is one reconciliation.
type pass struct {
	before, dv *cdi.DataVolume
	claim      *corev1.PersistentVolumeClaim
	settings   *settings.Current
	source     source
	// why tells what is wrong while there is no claim.
	why state
	// done tells that the claim holds its data without our work.
	done bool
	// waits tells that the claim waits for somebody to use it.
	waits bool
	// now is the phase of a clone that the storage makes, while it is under way.
	now cdi.DataVolumePhase
	// stuck is what the storage says that cannot make the clone.
	stuck string
	again time.Duration
}

// Reconcile brings a DataVolume one step further.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	dv := &cdi.DataVolume{}
	if err := r.Client.Get(ctx, req.NamespacedName, dv); err != nil {
		if apierrors.IsNotFound(err) {
			r.volumes.Forget(req.NamespacedName)
			r.claims.Forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read DataVolume %s: %w", req, err)
	}
	if r.volumes.Stale(dv) {
		return reconcile.Result{}, nil
	}
	if dv.DeletionTimestamp != nil || dv.Status.Phase == cdi.Succeeded {
		// What it made in its own namespace goes with it.
		if err := r.release(ctx, dv); err != nil || dv.DeletionTimestamp != nil {
			return reconcile.Result{}, err
		}
	}
	p := &pass{before: dv, dv: dv.DeepCopy()}
	err := r.step(ctx, p)
	if errors.Is(err, errLater) {
		return reconcile.Result{}, nil
	}
	r.show(ctx, p)
	wrote, writeErr := r.volumes.PatchStatus(ctx, p.before, p.dv)
	if writeErr != nil {
		writeErr = fmt.Errorf("write the status of DataVolume %s: %w", req, writeErr)
	}
	if wrote {
		r.tell(p)
	}
	return reconcile.Result{RequeueAfter: p.again}, errors.Join(err, writeErr)
}

// errLater ends a pass that wrote the DataVolume: the newer one brings us back.
var errLater = errors.New("the DataVolume was written")

func (r *Reconciler) step(ctx context.Context, p *pass) error {
	var err error
	if p.settings, err = r.Settings.Load(ctx); err != nil {
		return err
	}
	claim := &corev1.PersistentVolumeClaim{}
	switch err := r.Client.Get(ctx, client.ObjectKeyFromObject(p.dv), claim); {
	case err == nil:
		if r.claims.Stale(claim) {
			return errLater
		}
		p.claim = claim
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("read claim %s: %w", p.dv.Name, err)
	}
	for _, sub := range []func(context.Context, *pass) error{
		r.collect, r.resolve, r.mark, r.own, r.ensureClaim, r.checkpoints, r.clone, r.wait,
	} {
		if err := sub(ctx, p); err != nil {
			return err
		}
		if p.why.reason != "" {
			return nil
		}
	}
	return nil
}

// refuse notes why there is no claim, or none of ours.
func (p *pass) refuse(reason, format string, args ...any) {
	p.why = state{reason: reason, message: fmt.Sprintf(format, args...)}
}

// seen names an object as the DataVolume's owner sees it: CDI's messages have the bare name, which is enough in one namespace.
func (p *pass) seen(namespace, name string) string {
	if namespace == p.dv.Namespace {
		return name
	}
	return namespace + "/" + name
}

// mark writes on the DataVolume itself, once, what the contract wants to see there.
func (r *Reconciler) mark(ctx context.Context, p *pass) error {
	after := p.before.DeepCopy()
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	if after.Annotations[names.AnnUsePopulator] != "false" {
		after.Annotations[names.AnnUsePopulator] = "false"
	}
	if p.claim != nil && p.claim.Annotations[names.AnnPopulatedFor] == p.dv.Name && after.Annotations[names.AnnPrePopulated] == "" {
		after.Annotations[names.AnnPrePopulated] = p.claim.Name
	}
	if p.claim != nil && p.source.clones() && chosen(p.claim) != "" {
		after.Annotations[names.AnnCloneType] = string(chosen(p.claim))
	}
	if err := r.extendToken(ctx, p, after); err != nil {
		return err
	}
	inherit(after, p.source.labels)
	wrote, err := r.volumes.Patch(ctx, p.before, after)
	if err != nil {
		return fmt.Errorf("annotate DataVolume %s: %w", p.dv.Name, err)
	}
	if wrote {
		return errLater
	}
	return nil
}

// inherit copies what a source says about the machines it suits; what the DataVolume says itself stays, all of it.
func inherit(dv *cdi.DataVolume, from map[string]string) {
	keys := []string{
		names.LabelDefaultInstancetype, names.LabelDefaultInstancetypeKind, names.LabelDefaultPreference, names.LabelDefaultPreferenceKind,
	}
	for _, key := range keys {
		if _, own := dv.Labels[key]; own {
			return
		}
	}
	for key, value := range from {
		if !strings.HasPrefix(key, "instancetype.kubevirt.io/default-") && key != names.LabelDynamicCredentials {
			continue
		}
		if dv.Labels == nil {
			dv.Labels = map[string]string{}
		}
		dv.Labels[key] = value
	}
}
