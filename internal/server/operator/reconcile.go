package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"virtctl/internal/crds"
	"virtctl/internal/drift"
	"virtctl/internal/install/components"
	"virtctl/internal/server/operand"
)

// Finalizer keeps the KubeVirt resource until everything it stands for is gone.
const Finalizer = "kubevirt.io/foregroundDeleteKubeVirt"

// Reconciler brings the cluster to what the KubeVirt resource says.
type Reconciler struct {
	client client.Client
	// live reads kinds that may not exist.
	live      client.Reader
	applier   *drift.Tracker
	namespace string
	images    images
}

var (
	nodeGVK    = schema.GroupVersionKind{Version: "v1", Kind: "Node"}
	serviceGVK = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
	accountGVK = schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}
	budgetGVK  = schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"}
)

// watched is every other kind the operator installs: a change by somebody else is repaired.
var watched = []schema.GroupVersionKind{
	serviceGVK, accountGVK, budgetGVK, operand.DefinitionGVK(),
	{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicy"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicyBinding"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"},
	{Group: "scheduling.k8s.io", Version: "v1", Kind: "PriorityClass"},
}

func (r *Reconciler) setup(mgr ctrl.Manager) error {
	toKubeVirt := handler.EnqueueRequestsFromMapFunc(r.everyKubeVirt)
	b := ctrl.NewControllerManagedBy(mgr).Named("kubevirt").
		For(&v1.KubeVirt{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&appsv1.Deployment{}, toKubeVirt).
		Watches(&appsv1.DaemonSet{}, toKubeVirt).
		Watches(&corev1.Secret{}, toKubeVirt).
		Watches(&corev1.ConfigMap{}, toKubeVirt)
	for _, gvk := range watched {
		b = b.WatchesMetadata(drift.Metadata(gvk), toKubeVirt)
	}
	// Nodes decide how many replicas there are; their heartbeats do not matter.
	b = b.WatchesMetadata(drift.Metadata(nodeGVK), toKubeVirt, builder.WithPredicates(cameOrWent{}))
	c, err := b.Build(r)
	if err != nil {
		return err
	}
	return followNetworks(mgr, c, toKubeVirt)
}

func (r *Reconciler) everyKubeVirt(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1.KubeVirtList
	if err := r.client.List(ctx, &all); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range all.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
	}
	return out
}

// Reconcile brings the installation to what one KubeVirt resource says and its status to what is true.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	kv := &v1.KubeVirt{}
	if err := r.client.Get(ctx, req.NamespacedName, kv); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	before := kv.DeepCopy()
	var next time.Duration
	var want plan
	var err error
	switch {
	case kv.Namespace != r.namespace:
		err = fmt.Errorf("this operator serves namespace %s; create the KubeVirt resource there", r.namespace)
	case kv.DeletionTimestamp != nil:
		err = r.remove(ctx, kv)
	default:
		if want, err = r.plan(ctx, kv); err == nil {
			next, err = r.install(ctx, kv, want.Options)
		}
	}
	if apierrors.IsConflict(err) {
		return reconcile.Result{}, err // somebody was faster: not worth a word, what is there now is looked at again
	}
	r.report(ctx, kv, want, err)
	if errors.Is(err, operand.ErrWaiting) {
		next, err = operand.Patience, nil // what is waited for is watched; what does not go is looked after
	}
	if patchErr := r.patch(ctx, before, kv); patchErr != nil {
		err = errors.Join(err, patchErr)
	}
	return reconcile.Result{RequeueAfter: next}, err
}

func (r *Reconciler) patch(ctx context.Context, before, after *v1.KubeVirt) error {
	if !statusEqual(before, after) {
		status := after.DeepCopy()
		if err := r.client.Status().Patch(ctx, status, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("write the status of KubeVirt %s: %w", after.Name, err)
		}
	}
	if !sameFinalizers(before, after) {
		meta := before.DeepCopy()
		meta.Finalizers = after.Finalizers
		if err := r.client.Patch(ctx, meta, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("write the finalizers of KubeVirt %s: %w", after.Name, err)
		}
	}
	return nil
}

func (r *Reconciler) install(ctx context.Context, kv *v1.KubeVirt, opts components.Options) (time.Duration, error) {
	controllerutil.AddFinalizer(kv, Finalizer)
	if kv.Status.Phase == "" {
		kv.Status.Phase = v1.KubeVirtPhaseDeploying
	}
	next, bundle, err := r.certificates(ctx, kv, opts)
	if err != nil {
		return 0, err
	}
	opts.CABundle = bundle
	if err := r.definitions(ctx); err != nil {
		return next, err
	}
	if err := r.applier.ApplyAll(ctx, static(opts)); err != nil {
		return next, err
	}
	if err := r.workloads(ctx, kv, opts); err != nil {
		return next, err
	}
	if err := r.applier.ApplyAll(ctx, registrations(opts)); err != nil {
		return next, err
	}
	// Their kinds may not be served yet; the definitions' own status brings us back.
	if err := r.applier.ApplyAll(ctx, commonTypes(kv)); err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
		return next, err
	}
	return next, r.prune(ctx, opts)
}

// plan is what one reconciliation installs.
type plan struct {
	components.Options
	// missing says what the resource names that is not there.
	missing string
}

func (r *Reconciler) plan(ctx context.Context, kv *v1.KubeVirt) (plan, error) {
	nodes := &metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(nodeGVK)
	if err := r.client.List(ctx, nodes); err != nil {
		return plan{}, fmt.Errorf("count the nodes: %w", err)
	}
	opts := components.Options{
		Namespace: r.namespace, Registry: r.images.registry, Tag: r.images.tag, PullPolicy: r.images.pullPolicy,
		PullSecrets: kv.Spec.ImagePullSecrets, Replicas: 2, Verbosity: 2,
	}
	if len(nodes.Items) < 2 {
		opts.Replicas = 1
	}
	if kv.Spec.ImageRegistry != "" {
		opts.Registry = kv.Spec.ImageRegistry
	}
	if kv.Spec.ImageTag != "" {
		opts.Tag = kv.Spec.ImageTag
	}
	if kv.Spec.ImagePullPolicy != "" {
		opts.PullPolicy = kv.Spec.ImagePullPolicy
	}
	if infra := kv.Spec.Infra; infra != nil {
		opts.Infra = infra.NodePlacement
		if infra.Replicas != nil {
			opts.Replicas = int32(*infra.Replicas)
		}
	}
	if kv.Spec.Workloads != nil {
		opts.Workloads = kv.Spec.Workloads.NodePlacement
	}
	network, missing, err := r.migrationNetwork(ctx, kv)
	opts.MigrationNetwork = network
	return plan{opts, missing}, err
}

// definitions applies the CRDs and waits for nothing: a kind that is not served yet makes later steps fail and be tried again
// when its definition's status changes.
func (r *Reconciler) definitions(ctx context.Context) error {
	all, err := crds.Platform()
	if err != nil {
		return err
	}
	objects := make([]runtime.Object, 0, len(all))
	for _, crd := range all {
		labels := crd.GetLabels()
		labels[components.ManagedByLabel] = components.ManagedBy
		crd.SetLabels(labels)
		objects = append(objects, crd)
	}
	return r.applier.ApplyAll(ctx, objects)
}

// workloads rolls out what runs. A first installation starts everything at once. An update goes from the node up: a handler
// understands launchers and controllers older than itself, and the API accepts new fields only when everything below knows them.
func (r *Reconciler) workloads(ctx context.Context, kv *v1.KubeVirt, opts components.Options) error {
	order := []client.Object{components.Handler(opts), components.Controller(opts), components.API(opts)}
	update := kv.Status.ObservedKubeVirtVersion != "" && kv.Status.ObservedKubeVirtVersion != targetVersion(opts)
	for _, obj := range order {
		if err := r.applier.ApplyAll(ctx, []runtime.Object{obj}); err != nil {
			return err
		}
		if !update {
			continue
		}
		if waiting, err := r.rollout(ctx, obj); err != nil || waiting != "" {
			return err
		}
	}
	return nil
}

func (r *Reconciler) get(ctx context.Context, obj client.Object) (bool, error) {
	err := r.client.Get(ctx, client.ObjectKeyFromObject(obj), obj)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
