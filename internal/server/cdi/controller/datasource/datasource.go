// Package datasource keeps the status of DataSources: whether what they name may be cloned now.
package datasource

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/appear"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/snapshot"
	"virtctl/internal/server/writer"
)

// Reasons of the condition Ready.
const (
	reasonReady     = "Ready"
	reasonNoSource  = "NoSource"
	reasonSnapshot  = "SnapshotNotReady"
	reasonDepth     = "MaxReferenceDepthReached"
	reasonSelf      = "SelfReference"
	reasonNamespace = "CrossNamespaceReference"
)

// Reconciler works on DataSources.
type Reconciler struct {
	client    client.Client
	snapshots *appear.Kind
	sources   *writer.Writer
	now       func() time.Time
}

// New gives a Reconciler. snapshots are VolumeSnapshots, should the cluster have them.
func New(c client.Client, snapshots *appear.Kind) *Reconciler {
	return &Reconciler{client: c, snapshots: snapshots, sources: writer.New(c), now: time.Now}
}

// Setup starts the reconciler with the manager.
func (r *Reconciler) Setup(mgr ctrl.Manager) error {
	named := func(by string) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			var list cdi.DataSourceList
			key := o.GetNamespace() + "/" + o.GetName()
			if err := r.client.List(ctx, &list, client.MatchingFields{by: key}); err != nil {
				return nil
			}
			var out []reconcile.Request
			for i := range list.Items {
				out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
			}
			return out
		})
	}
	c, err := ctrl.NewControllerManagedBy(mgr).Named("datasource").
		For(&cdi.DataSource{}).
		Watches(&cdi.DataSource{}, named(index.DataSource)).
		Watches(&cdi.DataVolume{}, named(index.CloneSource)).
		Watches(&corev1.PersistentVolumeClaim{}, named(index.CloneSource)).
		Build(r)
	if err != nil {
		return err
	}
	r.snapshots.Follow(c, named(index.SnapshotSource))
	return nil
}

// outcome is what is found out about a source.
type outcome struct {
	ready           bool
	reason, message string
	// labels are what the source says about machines it suits.
	labels []map[string]string
}

func not(reason, format string, args ...any) outcome {
	return outcome{reason: reason, message: fmt.Sprintf(format, args...)}
}

func is(labels ...map[string]string) outcome {
	return outcome{ready: true, reason: reasonReady, message: "DataSource is ready to be consumed", labels: labels}
}

// Reconcile brings the status up to date.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	ds := &cdi.DataSource{}
	if err := r.client.Get(ctx, req.NamespacedName, ds); err != nil {
		if apierrors.IsNotFound(err) {
			r.sources.Forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read DataSource %s: %w", req, err)
	}
	if r.sources.Stale(ds) || ds.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	source, found, err := r.judge(ctx, ds)
	if err != nil {
		return reconcile.Result{}, err
	}
	after := ds.DeepCopy()
	after.Status.Source = cdi.DataSourceSource{}
	if found.ready {
		after.Status.Source = source
		for _, labels := range found.labels {
			inherit(after, labels)
		}
	}
	r.setReady(after, found)
	// The kind has no status subresource.
	if _, err := r.sources.Patch(ctx, ds, after); err != nil {
		return reconcile.Result{}, fmt.Errorf("write DataSource %s: %w", req, err)
	}
	return reconcile.Result{}, nil
}

// judge follows the reference, should there be one, and looks at what it comes to.
func (r *Reconciler) judge(ctx context.Context, ds *cdi.DataSource) (cdi.DataSourceSource, outcome, error) {
	source := *ds.Spec.Source.DeepCopy()
	if ref := source.DataSource; ref != nil {
		switch {
		case ref.Namespace != "" && ref.Namespace != ds.Namespace:
			return source, not(reasonNamespace, "DataSource cannot reference a DataSource in another namespace"), nil
		case ref.Name == ds.Name:
			return source, not(reasonSelf, "DataSource cannot self-reference"), nil
		}
		next := &cdi.DataSource{}
		err := r.client.Get(ctx, client.ObjectKey{Namespace: ds.Namespace, Name: ref.Name}, next)
		if apierrors.IsNotFound(err) {
			return source, not(names.ReasonNotFound, "DataSource %s not found", ref.Name), nil
		}
		if err != nil {
			return source, outcome{}, fmt.Errorf("read DataSource %s: %w", ref.Name, err)
		}
		if next.Spec.Source.DataSource != nil {
			return source, not(reasonDepth, "DataSource reference chain exceeds maximum depth of 1"), nil
		}
		source = *next.Spec.Source.DeepCopy()
	}
	var found outcome
	var err error
	switch {
	case source.PVC != nil:
		if source.PVC.Namespace == "" {
			source.PVC.Namespace = ds.Namespace
		}
		found, err = r.ofClaim(ctx, client.ObjectKey{Namespace: source.PVC.Namespace, Name: source.PVC.Name})
	case source.Snapshot != nil:
		if source.Snapshot.Namespace == "" {
			source.Snapshot.Namespace = ds.Namespace
		}
		found, err = r.ofSnapshot(ctx, client.ObjectKey{Namespace: source.Snapshot.Namespace, Name: source.Snapshot.Name})
	default:
		found = not(reasonNoSource, "No source PVC set")
	}
	return source, found, err
}

func (r *Reconciler) ofClaim(ctx context.Context, key client.ObjectKey) (outcome, error) {
	claim, dv := &corev1.PersistentVolumeClaim{}, &cdi.DataVolume{}
	claimErr := r.client.Get(ctx, key, claim)
	if client.IgnoreNotFound(claimErr) != nil {
		return outcome{}, fmt.Errorf("read claim %s: %w", key, claimErr)
	}
	err := r.client.Get(ctx, key, dv)
	switch {
	case err == nil && dv.Status.Phase == cdi.Succeeded:
		return is(dv.Labels, claim.Labels), nil
	case err == nil:
		phase := dv.Status.Phase
		return not(string(phase), "Import DataVolume phase %s", phase), nil
	case !apierrors.IsNotFound(err):
		return outcome{}, fmt.Errorf("read DataVolume %s: %w", key, err)
	case claimErr != nil:
		return not(names.ReasonNotFound, "PVC not found"), nil
	}
	return is(claim.Labels), nil
}

func (r *Reconciler) ofSnapshot(ctx context.Context, key client.ObjectKey) (outcome, error) {
	if !r.snapshots.Available() {
		return not(names.ReasonNotFound, "Snapshot not found: this cluster has no VolumeSnapshots"), nil
	}
	s := snapshot.New()
	err := r.client.Get(ctx, key, s)
	if apierrors.IsNotFound(err) {
		return not(names.ReasonNotFound, "Snapshot not found"), nil
	}
	if err != nil {
		return outcome{}, fmt.Errorf("read snapshot %s: %w", key, err)
	}
	if ready, _ := snapshot.Ready(s); !ready {
		return not(reasonSnapshot, "Snapshot phase is not ready"), nil
	}
	return is(s.GetLabels()), nil
}

// inherit copies labels about machines, and of kubevirt.io in general, to the DataSource.
func inherit(ds *cdi.DataSource, from map[string]string) {
	for key, value := range from {
		if !names.Inherited(key) {
			continue
		}
		if ds.Labels == nil {
			ds.Labels = map[string]string{}
		}
		ds.Labels[key] = value
	}
}

func (r *Reconciler) setReady(ds *cdi.DataSource, found outcome) {
	status := corev1.ConditionFalse
	if found.ready {
		status = corev1.ConditionTrue
	}
	var c *cdi.DataSourceCondition
	for i := range ds.Status.Conditions {
		if ds.Status.Conditions[i].Type == cdi.DataSourceReady {
			c = &ds.Status.Conditions[i]
		}
	}
	if c == nil {
		ds.Status.Conditions = append(ds.Status.Conditions, cdi.DataSourceCondition{Type: cdi.DataSourceReady})
		c = &ds.Status.Conditions[len(ds.Status.Conditions)-1]
	}
	if c.Status == status && c.Reason == found.reason && c.Message == found.message {
		return
	}
	c.LastHeartbeatTime = metav1.NewTime(r.now())
	if c.Status != status {
		c.LastTransitionTime = c.LastHeartbeatTime
	}
	c.Status, c.Reason, c.Message = status, found.reason, found.message
}
