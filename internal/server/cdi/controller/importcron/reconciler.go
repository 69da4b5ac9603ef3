// Package importcron keeps boot sources fresh: on its schedule a DataImportCron looks whether a registry has a newer image, imports
// it under a name made of its digest, points the DataSource to it, and removes what is too old.
//
// The controller keeps the schedule itself; what became of it is shown in the same annotations and conditions as ever.
package importcron

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/appear"
	"virtctl/internal/server/cdi/controller/class"
	"virtctl/internal/server/cdi/controller/metric"
	"virtctl/internal/server/cdi/controller/settings"
	"virtctl/internal/server/writer"
)

// Reasons of the two conditions.
const (
	reasonNoDigest   = "NoDigest"
	reasonNoImport   = "NoImport"
	reasonOutdated   = "Outdated"
	reasonScheduled  = "ImportScheduled"
	reasonInProgress = "ImportProgressing"
	reasonUpToDate   = "UpToDate"
)

// Options are what the reconciler works with.
type Options struct {
	Client    client.Client
	Live      client.Reader
	Recorder  record.EventRecorder
	Settings  *settings.Source
	Snapshots *appear.Kind
	Metrics   *metric.Set
	// Namespace is where the platform is installed.
	Namespace string
	// Digest asks a registry for the digest of an image.
	Digest DigestFunc
	Now    func() time.Time
}

// Reconciler works on DataImportCrons.
type Reconciler struct {
	Options
	crons   *writer.Writer
	sources *writer.Writer
	claims  *writer.Writer
}

// New gives a Reconciler.
func New(o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Digest == nil {
		o.Digest = Digest
	}
	return &Reconciler{Options: o, crons: writer.New(o.Client), sources: writer.New(o.Client), claims: writer.New(o.Client)}
}

// pass is one reconciliation.
type pass struct {
	before, cron *cdi.DataImportCron
	settings     *settings.Current
	format       cdi.DataImportCronSourceFormat
	class        string
	// source is what the newest import came to, once it is whole.
	source *cdi.DataSourceSource
	again  time.Duration
}

// Reconcile brings a DataImportCron one step further.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	cron := &cdi.DataImportCron{}
	if err := r.Client.Get(ctx, req.NamespacedName, cron); err != nil {
		if apierrors.IsNotFound(err) {
			r.crons.Forget(req.NamespacedName)
			r.Metrics.Outdated.DeletePartialMatch(prometheus.Labels{"ns": req.Namespace, "cron_name": req.Name})
			return reconcile.Result{}, r.removed(ctx, req.Namespace, req.Name)
		}
		return reconcile.Result{}, fmt.Errorf("read DataImportCron %s: %w", req, err)
	}
	if cron.DeletionTimestamp != nil || r.crons.Stale(cron) {
		return reconcile.Result{}, nil
	}
	p := &pass{before: cron, cron: cron.DeepCopy()}
	if p.cron.Annotations == nil {
		p.cron.Annotations = map[string]string{}
	}
	err := r.step(ctx, p)
	r.judge(p)
	// The kind has no status subresource: one write for annotations and status.
	if _, writeErr := r.crons.Patch(ctx, p.before, p.cron); writeErr != nil {
		err = errors.Join(err, fmt.Errorf("write DataImportCron %s: %w", req, writeErr))
	}
	return reconcile.Result{RequeueAfter: p.again}, err
}

func (r *Reconciler) step(ctx context.Context, p *pass) error {
	var err error
	if p.settings, err = r.Settings.Load(ctx); err != nil {
		return err
	}
	for _, sub := range []func(context.Context, *pass) error{r.storage, r.look, r.follow, r.poll, r.begin, r.point, r.collect} {
		if err := sub(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// storage finds out where imports will be and what they are kept as.
func (r *Reconciler) storage(ctx context.Context, p *pass) error {
	p.format = cdi.DataImportCronSourceFormatPvc
	spec := &p.cron.Spec.Template.Spec
	var wish *string
	switch {
	case spec.Storage != nil:
		wish = spec.Storage.StorageClassName
	case spec.PVC != nil:
		wish = spec.PVC.StorageClassName
	}
	found, err := class.Find(ctx, r.Client, wish, spec.ContentType)
	if err != nil || found == nil {
		return err
	}
	p.class = found.Name
	p.cron.Annotations[names.AnnStorageClass] = found.Name
	profile := &cdi.StorageProfile{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: found.Name}, profile); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read StorageProfile %s: %w", found.Name, err)
	}
	if f := profile.Status.DataImportCronSourceFormat; f != nil && r.Snapshots.Available() && profile.Status.SnapshotClass != nil {
		p.format = *f
	}
	p.cron.Status.SourceFormat = &p.format
	return nil
}

// judge computes the condition UpToDate and the metric.
func (r *Reconciler) judge(p *pass) {
	desired := p.cron.Annotations[names.AnnSourceDesiredDigest]
	imports := p.cron.Status.CurrentImports
	switch {
	case desired == "":
		r.condition(p, cdi.DataImportCronUpToDate, corev1.ConditionFalse, reasonNoDigest, "No source digest")
	case len(imports) == 0 || imports[0].Digest != desired:
		r.condition(p, cdi.DataImportCronUpToDate, corev1.ConditionFalse, reasonOutdated, "Source digest updated since last import")
	case p.source == nil:
		r.condition(p, cdi.DataImportCronUpToDate, corev1.ConditionFalse, reasonInProgress, "Import is progressing")
	default:
		r.condition(p, cdi.DataImportCronUpToDate, corev1.ConditionTrue, reasonUpToDate, "Latest import is up to date")
	}
	fresh := p.source != nil && len(imports) > 0 && imports[0].Digest == desired
	pending := "false"
	if !fresh && p.class == "" {
		pending = "true"
	}
	labels := prometheus.Labels{"ns": p.cron.Namespace, "cron_name": p.cron.Name}
	r.Metrics.Outdated.DeletePartialMatch(labels)
	labels["pending"] = pending
	value := 1.0
	if fresh {
		value = 0
	}
	r.Metrics.Outdated.With(labels).Set(value)
}

func (r *Reconciler) condition(p *pass, t cdi.DataImportCronConditionType, status corev1.ConditionStatus, reason, message string) {
	all := &p.cron.Status.Conditions
	var c *cdi.DataImportCronCondition
	for i := range *all {
		if (*all)[i].Type == t {
			c = &(*all)[i]
		}
	}
	if c == nil {
		*all = append(*all, cdi.DataImportCronCondition{Type: t})
		c = &(*all)[len(*all)-1]
	}
	if c.Status == status && c.Reason == reason && c.Message == message {
		return
	}
	c.LastHeartbeatTime = metav1.NewTime(r.Now())
	if c.Status != status {
		c.LastTransitionTime = c.LastHeartbeatTime
	}
	c.Status, c.Reason, c.Message = status, reason, message
}
