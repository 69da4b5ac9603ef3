// Package populator fills claims that people make themselves and that refer to a VolumeImportSource, VolumeUploadSource or
// VolumeCloneSource. Such a claim stays unbound while another one, PVC', is filled in its stead; then its volume changes hands.
package populator

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/claim"
	"virtctl/internal/server/cdi/controller/clonetoken"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/progress"
	"virtctl/internal/server/cdi/controller/rebind"
	"virtctl/internal/server/cdi/controller/settings"
	"virtctl/internal/server/writer"
)

// Options are what the reconciler works with.
type Options struct {
	Client   client.Client
	Recorder record.EventRecorder
	Settings *settings.Source
	Tokens   *clonetoken.Keeper
	Progress *progress.Scraper
}

// Reconciler works on claims with a reference to a source.
type Reconciler struct {
	Options
	claims *writer.Writer
}

// New gives a Reconciler.
func New(o Options) *Reconciler { return &Reconciler{Options: o, claims: writer.New(o.Client)} }

// pass is one reconciliation.
type pass struct {
	before, claim *corev1.PersistentVolumeClaim
	prime         *corev1.PersistentVolumeClaim
	again         time.Duration
	events        []func()
}

// refers tells whether one of our sources shall fill a claim.
func refers(c *corev1.PersistentVolumeClaim) bool {
	ref := c.Spec.DataSourceRef
	if ref == nil || ref.APIGroup == nil || *ref.APIGroup != cdi.SchemeGroupVersion.Group {
		return false
	}
	return ref.Kind == cdi.VolumeImportSourceRef || ref.Kind == cdi.VolumeUploadSourceRef || ref.Kind == cdi.VolumeCloneSourceRef
}

// PrimeName is the name of the claim that is filled in another's stead.
func PrimeName(c *corev1.PersistentVolumeClaim) string {
	return names.PrimePrefix + "-" + string(c.UID)
}

// Reconcile brings a claim one step further.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	c := &corev1.PersistentVolumeClaim{}
	if err := r.Client.Get(ctx, req.NamespacedName, c); err != nil {
		if apierrors.IsNotFound(err) {
			r.claims.Forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read claim %s: %w", req, err)
	}
	if !refers(c) || c.DeletionTimestamp != nil || r.claims.Stale(c) {
		return reconcile.Result{}, nil // what was made for it goes with it
	}
	p := &pass{before: c, claim: c.DeepCopy()}
	if p.claim.Annotations == nil {
		p.claim.Annotations = map[string]string{}
	}
	err := r.step(ctx, p)
	wrote, writeErr := r.claims.Patch(ctx, p.before, p.claim)
	if writeErr != nil {
		writeErr = fmt.Errorf("write claim %s: %w", req, writeErr)
	}
	if wrote {
		for _, tell := range p.events {
			tell()
		}
	}
	return reconcile.Result{RequeueAfter: p.again}, errors.Join(err, writeErr)
}

func (r *Reconciler) step(ctx context.Context, p *pass) error {
	prime := &corev1.PersistentVolumeClaim{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.claim.Namespace, Name: PrimeName(p.claim)}, prime)
	switch {
	case err == nil && metav1.IsControlledBy(prime, p.claim):
		p.prime = prime
	case err == nil:
		return fmt.Errorf("claim %s is in the way: it does not belong to %s; delete it", prime.Name, p.claim.Name)
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("read claim %s: %w", PrimeName(p.claim), err)
	}
	switch {
	case p.claim.Status.Phase == corev1.ClaimBound || p.claim.Spec.VolumeName != "":
		return r.finish(ctx, p)
	case p.prime == nil:
		return r.begin(ctx, p)
	case p.prime.DeletionTimestamp != nil:
		return nil
	}
	r.mirror(ctx, p)
	if p.prime.Annotations[names.AnnPodPhase] == string(corev1.PodSucceeded) {
		return r.rebind(ctx, p)
	}
	return nil
}

// begin makes PVC' once its source is there and it is time.
func (r *Reconciler) begin(ctx context.Context, p *pass) error {
	current, err := r.Settings.Load(ctx)
	if err != nil {
		return err
	}
	late, err := claim.BindsLate(ctx, r.Client, p.claim.Spec.StorageClassName)
	if err != nil || late && claim.HonorsWait(current, p.claim) {
		return err
	}
	prime, err := r.render(ctx, p, current)
	if err != nil || prime == nil {
		return err
	}
	err = r.Client.Create(ctx, prime)
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil
	case claim.IsQuota(err):
		r.tell(p, corev1.EventTypeWarning, names.EventErrExceededQuota, err.Error())
		return fmt.Errorf("create claim %s: %w", prime.Name, err)
	case err != nil:
		return fmt.Errorf("create claim %s: %w", prime.Name, err)
	}
	p.claim.Annotations[names.AnnPVCPrime] = prime.Name
	return nil
}

// mirrored are what PVC' says about its pods, which people look for on their own claim.
func mirrored() []string {
	out := []string{
		names.AnnPodPhase, names.AnnPodReady, names.AnnPodRestarts, names.AnnPodSchedulable, names.AnnImportFatalError,
		names.AnnPreallocationApplied, names.AnnRequiresScratch, names.AnnContentDigest, names.AnnContentLength,
	}
	for _, condition := range []string{names.AnnRunningCondition, names.AnnBoundCondition, names.AnnSourceRunningCondition} {
		out = append(out, condition, condition+names.SuffixReason, condition+names.SuffixMessage)
	}
	return out
}

func (r *Reconciler) mirror(ctx context.Context, p *pass) {
	a := p.claim.Annotations
	a[names.AnnPVCPrime] = p.prime.Name
	for _, key := range mirrored() {
		value, has := p.prime.Annotations[key]
		if key == names.AnnPodPhase && value == string(corev1.PodSucceeded) {
			continue // only when the volume has changed hands
		}
		if has {
			a[key] = value
		} else {
			delete(a, key)
		}
	}
	for key, value := range p.prime.Labels {
		if _, taken := p.claim.Labels[key]; !taken && len(key) > 0 && names.Inherited(key) {
			if p.claim.Labels == nil {
				p.claim.Labels = map[string]string{}
			}
			p.claim.Labels[key] = value
		}
	}
	r.measure(ctx, p)
}

// measure asks a running worker how far it is, and comes back as long as it runs.
func (r *Reconciler) measure(ctx context.Context, p *pass) {
	var pods corev1.PodList
	if p.prime.Annotations[names.AnnCloneRequest] != "" {
		if err := r.Client.List(ctx, &pods, client.MatchingFields{index.CloneTarget: string(p.prime.UID)}); err != nil {
			return
		}
	} else if name := p.prime.Annotations[names.AnnImportPod]; name != "" {
		pod := corev1.Pod{}
		if err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.prime.Namespace, Name: name}, &pod); err == nil {
			pods.Items = append(pods.Items, pod)
		}
	}
	for i := range pods.Items {
		if pods.Items[i].Status.Phase != corev1.PodRunning {
			continue
		}
		p.again = progress.Interval
		if percent, known := r.Progress.Of(ctx, &pods.Items[i], string(p.claim.UID)); known {
			p.claim.Annotations[names.AnnPopulatorProgress] = progress.Text(percent)
		}
	}
}

// rebind gives the volume of PVC' to the claim.
func (r *Reconciler) rebind(ctx context.Context, p *pass) error {
	if p.prime.Spec.VolumeName == "" {
		return nil
	}
	volume := &corev1.PersistentVolume{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: p.prime.Spec.VolumeName}, volume); err != nil {
		return fmt.Errorf("read volume %s: %w", p.prime.Spec.VolumeName, err)
	}
	return rebind.Volume(ctx, r.Client, volume, p.prime, p.claim)
}

// finish notes the end and removes PVC'.
func (r *Reconciler) finish(ctx context.Context, p *pass) error {
	if p.claim.Status.Phase != corev1.ClaimBound {
		return nil
	}
	if p.prime != nil {
		r.mirror(ctx, p)
		p.again = 0
	}
	a := p.claim.Annotations
	if p.prime == nil && a[names.AnnPVCPrime] == "" {
		return nil // bound by hand, or finished long ago
	}
	if a[names.AnnPodPhase] != string(corev1.PodSucceeded) {
		a[names.AnnPodPhase] = string(corev1.PodSucceeded)
		a[names.AnnPopulatorProgress] = "100.0%"
		reason, message := succeeded(p.claim)
		r.tell(p, corev1.EventTypeNormal, reason, message)
	}
	if p.prime == nil || p.prime.DeletionTimestamp != nil || p.prime.Annotations[names.AnnPodRetain] == "true" {
		return nil
	}
	if err := r.Client.Delete(ctx, p.prime, client.Preconditions{UID: &p.prime.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete claim %s: %w", p.prime.Name, err)
	}
	return nil
}

func succeeded(c *corev1.PersistentVolumeClaim) (reason, message string) {
	switch c.Spec.DataSourceRef.Kind {
	case cdi.VolumeUploadSourceRef:
		return names.EventUploadSucceeded, "Successfully uploaded into " + c.Name
	case cdi.VolumeCloneSourceRef:
		return names.EventCloneSucceeded, "Successfully cloned into " + c.Name
	}
	return names.EventImportSucceeded, "Successfully imported into PVC " + c.Name
}

func (r *Reconciler) tell(p *pass, kind, reason, message string) {
	on := p.before
	p.events = append(p.events, func() { r.Recorder.Event(on, kind, reason, message) })
}
