// Package transfer moves claims and DataVolumes to another name or namespace, with the volume behind them: what an ObjectTransfer
// asks for. The volume changes hands before the source goes, so nothing is lost whenever we are stopped.
package transfer

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/rebind"
	"virtctl/internal/server/writer"
)

// Kinds that can be moved.
const (
	kindClaim  = "PersistentVolumeClaim"
	kindVolume = "DataVolume"
)

// dataVolume and dataUID remember in the status whose volume is moved, for when the source is gone.
const (
	dataVolume = "pvName"
	dataUID    = "pvcUID"
)

// annTransfer is on what a transfer made: the UID of the ObjectTransfer.
const annTransfer = "virtctl.io/object-transfer"

// Reconciler works on ObjectTransfers.
type Reconciler struct {
	client    client.Client
	transfers *writer.Writer
	now       func() time.Time
}

// New gives a Reconciler.
func New(c client.Client) *Reconciler {
	return &Reconciler{client: c, transfers: writer.New(c), now: time.Now}
}

// Setup starts the reconciler with the manager.
func (r *Reconciler) Setup(mgr ctrl.Manager) error {
	unfinished := handler.EnqueueRequestsFromMapFunc(r.unfinished)
	return ctrl.NewControllerManagedBy(mgr).Named("objecttransfer").
		For(&cdi.ObjectTransfer{}).
		Watches(&corev1.PersistentVolumeClaim{}, unfinished).
		Watches(&corev1.Pod{}, unfinished).
		WithOptions(controller.Options{
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
}

// unfinished gives all transfers under way: there are rarely any.
func (r *Reconciler) unfinished(ctx context.Context, _ client.Object) []reconcile.Request {
	var list cdi.ObjectTransferList
	if err := r.client.List(ctx, &list); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if !over(&list.Items[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

func over(t *cdi.ObjectTransfer) bool {
	return t.Status.Phase == cdi.ObjectTransferComplete || t.Status.Phase == cdi.ObjectTransferError
}

// Reconcile brings a transfer one step further.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	t := &cdi.ObjectTransfer{}
	if err := r.client.Get(ctx, req.NamespacedName, t); err != nil {
		if apierrors.IsNotFound(err) {
			r.transfers.Forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("read ObjectTransfer %s: %w", req.Name, err)
	}
	if over(t) || t.DeletionTimestamp != nil || r.transfers.Stale(t) {
		return reconcile.Result{}, nil
	}
	after := t.DeepCopy()
	phase, why, err := r.step(ctx, after)
	r.say(after, phase, why)
	if _, writeErr := r.transfers.PatchStatus(ctx, t, after); writeErr != nil {
		return reconcile.Result{}, fmt.Errorf("write ObjectTransfer %s: %w", req.Name, writeErr)
	}
	return reconcile.Result{}, err
}

// say sets the phase and its condition.
func (r *Reconciler) say(t *cdi.ObjectTransfer, phase cdi.ObjectTransferPhase, why string) {
	t.Status.Phase = phase
	status, reason := corev1.ConditionFalse, string(phase)
	if phase == cdi.ObjectTransferComplete {
		status = corev1.ConditionTrue
	}
	var c *cdi.ObjectTransferCondition
	for i := range t.Status.Conditions {
		if t.Status.Conditions[i].Type == cdi.ObjectTransferConditionComplete {
			c = &t.Status.Conditions[i]
		}
	}
	if c == nil {
		t.Status.Conditions = append(t.Status.Conditions, cdi.ObjectTransferCondition{Type: cdi.ObjectTransferConditionComplete})
		c = &t.Status.Conditions[len(t.Status.Conditions)-1]
	}
	if c.Status == status && c.Reason == reason && c.Message == why {
		return
	}
	c.LastHeartbeatTime = metav1.NewTime(r.now())
	if c.Status != status {
		c.LastTransitionTime = c.LastHeartbeatTime
	}
	c.Status, c.Reason, c.Message = status, reason, why
}

// target is the name things will have.
func target(t *cdi.ObjectTransfer) types.NamespacedName {
	key := types.NamespacedName{Namespace: t.Spec.Source.Namespace, Name: t.Spec.Source.Name}
	if t.Spec.Target.Namespace != nil && *t.Spec.Target.Namespace != "" {
		key.Namespace = *t.Spec.Target.Namespace
	}
	if t.Spec.Target.Name != nil && *t.Spec.Target.Name != "" {
		key.Name = *t.Spec.Target.Name
	}
	return key
}

func (r *Reconciler) step(ctx context.Context, t *cdi.ObjectTransfer) (cdi.ObjectTransferPhase, string, error) {
	from := types.NamespacedName{Namespace: t.Spec.Source.Namespace, Name: t.Spec.Source.Name}
	to := target(t)
	switch {
	case t.Spec.Source.Kind != kindClaim && t.Spec.Source.Kind != kindVolume:
		return cdi.ObjectTransferError, fmt.Sprintf("kind %s cannot be transferred, only %s and %s", t.Spec.Source.Kind, kindVolume, kindClaim), nil
	case from == to:
		return cdi.ObjectTransferError, "source and target are the same", nil
	}
	source := &corev1.PersistentVolumeClaim{}
	err := r.client.Get(ctx, from, source)
	if client.IgnoreNotFound(err) != nil {
		return t.Status.Phase, "", fmt.Errorf("read claim %s: %w", from, err)
	}
	if err != nil {
		source = nil
	}
	if t.Status.Data[dataVolume] == "" {
		why, err := r.begin(ctx, t, source)
		if err != nil || why != "" {
			return cdi.ObjectTransferPending, why, err
		}
	}
	return r.move(ctx, t, source, to)
}

// begin notes which volume to move, when it may be moved.
func (r *Reconciler) begin(ctx context.Context, t *cdi.ObjectTransfer, source *corev1.PersistentVolumeClaim) (why string, err error) {
	if source == nil {
		return fmt.Sprintf("claim %s/%s does not exist", t.Spec.Source.Namespace, t.Spec.Source.Name), nil
	}
	obj := client.Object(source)
	if t.Spec.Source.Kind == kindVolume {
		dv := &cdi.DataVolume{}
		if err := r.client.Get(ctx, client.ObjectKeyFromObject(source), dv); err != nil {
			return fmt.Sprintf("DataVolume %s/%s does not exist", source.Namespace, source.Name), client.IgnoreNotFound(err)
		}
		if dv.Status.Phase != cdi.Succeeded {
			return fmt.Sprintf("DataVolume %s/%s is in phase %s", dv.Namespace, dv.Name, dv.Status.Phase), nil
		}
		obj = dv
	}
	for key, value := range t.Spec.Source.RequiredAnnotations {
		if obj.GetAnnotations()[key] != value {
			return fmt.Sprintf("the source must have annotation %s=%q", key, value), nil
		}
	}
	if source.Status.Phase != corev1.ClaimBound || source.Spec.VolumeName == "" {
		return fmt.Sprintf("claim %s/%s is not bound", source.Namespace, source.Name), nil
	}
	users, err := index.Users(ctx, r.client, source.Namespace, source.Name, false)
	if err != nil {
		return "", err
	}
	if len(users) > 0 {
		return fmt.Sprintf("pod %s/%s uses the claim", users[0].Namespace, users[0].Name), nil
	}
	if t.Status.Data == nil {
		t.Status.Data = map[string]string{}
	}
	t.Status.Data[dataVolume], t.Status.Data[dataUID] = source.Spec.VolumeName, string(source.UID)
	return "", nil
}

// move makes the target, gives it the volume, and removes the source.
func (r *Reconciler) move(ctx context.Context, t *cdi.ObjectTransfer, source *corev1.PersistentVolumeClaim, to types.NamespacedName) (cdi.ObjectTransferPhase, string, error) {
	made := &corev1.PersistentVolumeClaim{}
	err := r.client.Get(ctx, to, made)
	switch {
	case apierrors.IsNotFound(err) && source != nil:
		return cdi.ObjectTransferRunning, "", r.create(ctx, t, source, to)
	case apierrors.IsNotFound(err):
		return cdi.ObjectTransferError, "source and target are both gone", nil
	case err != nil:
		return cdi.ObjectTransferRunning, "", fmt.Errorf("read claim %s: %w", to, err)
	case made.Annotations[annTransfer] != string(t.UID):
		return cdi.ObjectTransferPending, fmt.Sprintf("claim %s exists already", to), nil
	}
	volume := &corev1.PersistentVolume{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: t.Status.Data[dataVolume]}, volume); err != nil {
		return cdi.ObjectTransferRunning, "", fmt.Errorf("read volume %s: %w", t.Status.Data[dataVolume], err)
	}
	old := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: t.Spec.Source.Namespace, Name: t.Spec.Source.Name, UID: types.UID(t.Status.Data[dataUID]),
	}}
	if err := rebind.Volume(ctx, r.client, volume, old, made); err != nil {
		return cdi.ObjectTransferRunning, "", err
	}
	if t.Spec.Source.Kind == kindVolume {
		if err := r.volume(ctx, t, to); err != nil {
			return cdi.ObjectTransferRunning, "", err
		}
	}
	if source != nil && source.DeletionTimestamp == nil {
		if err := r.client.Delete(ctx, source, client.Preconditions{UID: &old.UID}); client.IgnoreNotFound(err) != nil {
			return cdi.ObjectTransferRunning, "", fmt.Errorf("delete claim %s/%s: %w", source.Namespace, source.Name, err)
		}
	}
	if made.Status.Phase != corev1.ClaimBound {
		return cdi.ObjectTransferRunning, "", nil
	}
	return cdi.ObjectTransferComplete, "Transfer complete", nil
}

// create makes the target claim, which waits for the volume.
func (r *Reconciler) create(ctx context.Context, t *cdi.ObjectTransfer, source *corev1.PersistentVolumeClaim, to types.NamespacedName) error {
	made := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: to.Namespace, Name: to.Name, Labels: source.Labels, Annotations: map[string]string{}},
		Spec:       *source.Spec.DeepCopy(),
	}
	for key, value := range source.Annotations {
		switch key {
		case "pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller", names.AnnSelectedNode, names.AnnCreatedForVolume:
		default:
			made.Annotations[key] = value
		}
	}
	made.Annotations[annTransfer] = string(t.UID)
	if t.Spec.Source.Kind == kindVolume {
		made.Annotations[names.AnnPopulatedFor] = to.Name
	}
	made.Spec.DataSource, made.Spec.DataSourceRef = nil, nil
	if err := r.client.Create(ctx, made); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create claim %s: %w", to, err)
	}
	return nil
}

// volume makes the target DataVolume, which finds its claim filled, and removes the source.
func (r *Reconciler) volume(ctx context.Context, t *cdi.ObjectTransfer, to types.NamespacedName) error {
	dv := &cdi.DataVolume{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: t.Spec.Source.Namespace, Name: t.Spec.Source.Name}, dv)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	made := &cdi.DataVolume{
		ObjectMeta: metav1.ObjectMeta{Namespace: to.Namespace, Name: to.Name, Labels: dv.Labels, Annotations: map[string]string{}},
		Spec:       *dv.Spec.DeepCopy(),
	}
	for key, value := range dv.Annotations {
		if key != names.AnnExtendedCloneToken && key != names.AnnCloneToken {
			made.Annotations[key] = value
		}
	}
	made.Annotations[names.AnnPrePopulated] = to.Name
	if err := r.client.Create(ctx, made); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create DataVolume %s: %w", to, err)
	}
	if err := r.client.Delete(ctx, dv, client.Preconditions{UID: &dv.UID}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete DataVolume %s/%s: %w", dv.Namespace, dv.Name, err)
	}
	return nil
}
