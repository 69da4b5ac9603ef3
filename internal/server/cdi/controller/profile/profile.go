// Package profile keeps one StorageProfile for each storage class: what is known of the storage, unless the administrator knows
// better.
package profile

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/storageprofile"
	"virtctl/internal/server/appear"
	"virtctl/internal/server/cdi/controller/metric"
	"virtctl/internal/server/cdi/controller/snapshot"
	"virtctl/internal/server/writer"
)

// Reconciler works on storage classes.
type Reconciler struct {
	client   client.Client
	live     client.Reader
	metrics  *metric.Set
	profiles *writer.Writer
	now      func() time.Time
}

// New gives a Reconciler.
func New(c client.Client, live client.Reader, m *metric.Set) *Reconciler {
	return &Reconciler{client: c, live: live, metrics: m, profiles: writer.New(c), now: time.Now}
}

// Setup starts the reconciler with the manager. classes are the snapshot classes, should the cluster have them.
func (r *Reconciler) Setup(mgr ctrl.Manager, classes *appear.Kind) error {
	c, err := ctrl.NewControllerManagedBy(mgr).Named("storageprofile").
		For(&storagev1.StorageClass{}).
		Watches(&cdi.StorageProfile{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: o.GetName()}}}
		})).
		Watches(&corev1.PersistentVolume{}, handler.EnqueueRequestsFromMapFunc(r.ofVolume)).
		Build(r)
	if err != nil {
		return err
	}
	classes.Follow(c, handler.EnqueueRequestsFromMapFunc(r.all))
	return nil
}

// ofVolume gives the class of a volume that was made by hand: such volumes say what their class can do.
func (r *Reconciler) ofVolume(ctx context.Context, obj client.Object) []reconcile.Request {
	pv, ok := obj.(*corev1.PersistentVolume)
	if !ok || pv.Spec.CSI != nil || pv.Spec.StorageClassName == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: pv.Spec.StorageClassName}}}
}

func (r *Reconciler) all(ctx context.Context, _ client.Object) []reconcile.Request {
	var list storagev1.StorageClassList
	if err := r.client.List(ctx, &list); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKey{Name: list.Items[i].Name}})
	}
	return out
}

// Reconcile brings the profile of a class up to date.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	class := &storagev1.StorageClass{}
	err := r.client.Get(ctx, req.NamespacedName, class)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, r.remove(ctx, req.Name)
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read storage class %s: %w", req.Name, err)
	}
	profile := &cdi.StorageProfile{}
	err = r.client.Get(ctx, req.NamespacedName, profile)
	if apierrors.IsNotFound(err) {
		return reconcile.Result{}, r.create(ctx, class)
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read StorageProfile %s: %w", req.Name, err)
	}
	if r.profiles.Stale(profile) || profile.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, r.update(ctx, class, profile)
}

func (r *Reconciler) create(ctx context.Context, class *storagev1.StorageClass) error {
	advice, err := r.advise(ctx, class)
	if err != nil {
		return err
	}
	made := &cdi.StorageProfile{ObjectMeta: metav1.ObjectMeta{Name: class.Name, Labels: map[string]string{
		names.LabelApp: names.LabelAppValue, names.LabelComponent: "",
		names.LabelManagedBy: names.LeaseController, names.LabelComp: "storage",
	}}}
	annotate(made, advice)
	if err := r.client.Create(ctx, made); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create StorageProfile %s: %w", class.Name, err)
	}
	return nil // its event brings the status
}

func (r *Reconciler) remove(ctx context.Context, name string) error {
	r.metrics.Profile.DeletePartialMatch(prometheus.Labels{"storageclass": name})
	profile := &cdi.StorageProfile{ObjectMeta: metav1.ObjectMeta{Name: name}}
	r.profiles.Forget(client.ObjectKeyFromObject(profile))
	if err := r.client.Get(ctx, client.ObjectKeyFromObject(profile), profile); err != nil {
		return client.IgnoreNotFound(err)
	}
	if err := r.client.Delete(ctx, profile); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete StorageProfile %s: %w", name, err)
	}
	return nil
}

func (r *Reconciler) advise(ctx context.Context, class *storagev1.StorageClass) (storageprofile.Advice, error) {
	if class.Provisioner != "kubernetes.io/no-provisioner" {
		return storageprofile.Advise(class, nil), nil
	}
	var volumes corev1.PersistentVolumeList
	if err := r.client.List(ctx, &volumes); err != nil {
		return storageprofile.Advice{}, fmt.Errorf("list the volumes: %w", err)
	}
	return storageprofile.Advise(class, volumes.Items), nil
}

func annotate(p *cdi.StorageProfile, advice storageprofile.Advice) {
	set := func(key, value string) {
		if _, own := p.Annotations[key]; own || value == "" {
			return
		}
		if p.Annotations == nil {
			p.Annotations = map[string]string{}
		}
		p.Annotations[key] = value
	}
	set(names.AnnMinimumSupportedPVCSize, advice.Minimum)
	if advice.OnceForCron {
		set(names.AnnUseRWOForDataImportCron, "true")
	}
}

func (r *Reconciler) update(ctx context.Context, class *storagev1.StorageClass, profile *cdi.StorageProfile) error {
	advice, err := r.advise(ctx, class)
	if err != nil {
		return err
	}
	snapshots, err := snapshot.Class(ctx, r.live, class.Provisioner, profile.Spec.SnapshotClass)
	if err != nil {
		return err
	}
	after := profile.DeepCopy()
	annotate(after, advice)
	if wrote, err := r.profiles.Patch(ctx, profile, after); err != nil || wrote {
		return wrap("annotate", class.Name, err)
	}
	after = profile.DeepCopy()
	r.fill(&after.Status, class, profile, advice, snapshots)
	_, err = r.profiles.PatchStatus(ctx, profile, after)
	r.measure(class, after)
	return wrap("write the status of", class.Name, err)
}

func wrap(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s StorageProfile %s: %w", what, name, err)
}

// fill computes the status: what the administrator says, else what the table knows.
func (r *Reconciler) fill(s *cdi.StorageProfileStatus, class *storagev1.StorageClass, p *cdi.StorageProfile, advice storageprofile.Advice, snapshots string) {
	s.StorageClass, s.Provisioner = &class.Name, &class.Provisioner
	s.SnapshotClass = nil
	if snapshots != "" {
		s.SnapshotClass = &snapshots
	}
	strategy := strategyOf(class, p, advice, snapshots)
	s.CloneStrategy = &strategy
	format := cdi.DataImportCronSourceFormatPvc
	if advice.Cron != "" && (advice.Cron != cdi.DataImportCronSourceFormatSnapshot || snapshots != "") {
		format = advice.Cron
	}
	if p.Spec.DataImportCronSourceFormat != nil {
		format = *p.Spec.DataImportCronSourceFormat
	}
	s.DataImportCronSourceFormat = &format
	s.ClaimPropertySets = advice.Sets
	state := cdi.ConditionState{Status: corev1.ConditionTrue, Reason: advice.Reason, Message: "Provisioner is recognized"}
	if !advice.Recognized {
		state.Status, state.Message = corev1.ConditionFalse, advice.Message
	}
	if len(p.Spec.ClaimPropertySets) > 0 {
		if slices.ContainsFunc(p.Spec.ClaimPropertySets, incomplete) {
			state.Message = "each ClaimPropertySet must provide both volume mode and access modes; spec.claimPropertySets is not used"
		} else {
			s.ClaimPropertySets = p.Spec.ClaimPropertySets
		}
	}
	setCondition(s, state, r.now())
}

func incomplete(set cdi.ClaimPropertySet) bool {
	return set.VolumeMode == nil || len(set.AccessModes) == 0
}

func strategyOf(class *storagev1.StorageClass, p *cdi.StorageProfile, advice storageprofile.Advice, snapshots string) cdi.CDICloneStrategy {
	if p.Spec.CloneStrategy != nil {
		return *p.Spec.CloneStrategy
	}
	switch wish := cdi.CDICloneStrategy(class.Annotations[names.AnnCloneStrategy]); wish {
	case cdi.CloneStrategyHostAssisted, cdi.CloneStrategySnapshot, cdi.CloneStrategyCsiClone:
		return wish
	}
	strategy := advice.Clone
	if strategy == "" {
		strategy = cdi.CloneStrategySnapshot
	}
	if strategy == cdi.CloneStrategySnapshot && snapshots == "" {
		return cdi.CloneStrategyHostAssisted
	}
	return strategy
}

func setCondition(s *cdi.StorageProfileStatus, state cdi.ConditionState, now time.Time) {
	i := slices.IndexFunc(s.Conditions, func(c cdi.StorageProfileCondition) bool { return c.Type == cdi.StorageProfileRecognized })
	if i < 0 {
		s.Conditions = append(s.Conditions, cdi.StorageProfileCondition{Type: cdi.StorageProfileRecognized})
		i = len(s.Conditions) - 1
	}
	c := &s.Conditions[i].ConditionState
	if c.Status == state.Status && c.Reason == state.Reason && c.Message == state.Message {
		return
	}
	state.LastHeartbeatTime, state.LastTransitionTime = metav1.NewTime(now), c.LastTransitionTime
	if c.Status != state.Status {
		state.LastTransitionTime = state.LastHeartbeatTime
	}
	*c = state
}

// measure sets the class's metric.
func (r *Reconciler) measure(class *storagev1.StorageClass, p *cdi.StorageProfile) {
	complete := len(p.Status.ClaimPropertySets) > 0
	rwx := slices.ContainsFunc(p.Status.ClaimPropertySets, func(s cdi.ClaimPropertySet) bool {
		return slices.Contains(s.AccessModes, corev1.ReadWriteMany)
	})
	smart := p.Status.CloneStrategy != nil && *p.Status.CloneStrategy != cdi.CloneStrategyHostAssisted
	r.metrics.Profile.DeletePartialMatch(prometheus.Labels{"storageclass": class.Name})
	r.metrics.Profile.With(prometheus.Labels{
		"storageclass": class.Name, "provisioner": class.Provisioner, "complete": strconv.FormatBool(complete),
		"default":     strconv.FormatBool(class.Annotations[names.AnnDefaultClass] == "true"),
		"virtdefault": strconv.FormatBool(class.Annotations[names.AnnDefaultVirtClass] == "true"),
		"rwx":         strconv.FormatBool(rwx), "smartclone": strconv.FormatBool(smart),
		"degraded": strconv.FormatBool(complete && (!rwx || !smart)),
	}).Set(1)
}
