package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"virtctl/internal/cdi/hooks"
	"virtctl/internal/cdi/names"
	"virtctl/internal/crds"
	"virtctl/internal/drift"
	components "virtctl/internal/install/components/cdi"
	"virtctl/internal/install/pods"
	"virtctl/internal/rollout"
	"virtctl/internal/server/operand"
)

const managedBy = components.ManagedBy

// Reconciler brings the cluster to what the CDI resource says.
type Reconciler struct {
	client    client.Client
	direct    client.Reader
	mapper    meta.RESTMapper
	cache     cache.Cache
	applier   *drift.Tracker
	namespace string
	images    Images
	// constraints tells that the cluster has SecurityContextConstraints.
	constraints bool

	controller controller.Controller
	// ready is the metric that says whether everything is deployed.
	ready prometheus.Gauge
	// configWatched tells that CDIConfigs are watched: their kind is served only after the operator has defined it.
	configWatched atomic.Bool
}

var (
	serviceGVK    = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
	accountGVK    = schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}
	budgetGVK     = schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"}
	roleGVK       = schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}
	constraintGVK = schema.GroupVersionKind{Group: "security.openshift.io", Version: "v1", Kind: "SecurityContextConstraints"}
	configGVK     = schema.GroupVersionKind{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "CDIConfig"}
)

// watched is every other kind the operator installs: a change by somebody else is repaired.
var watched = []schema.GroupVersionKind{
	serviceGVK, accountGVK, budgetGVK, roleGVK, operand.DefinitionGVK(),
	{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration"},
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"},
}

// kinds are the watched kinds this cluster has.
func (r *Reconciler) kinds() []schema.GroupVersionKind {
	if r.constraints {
		return append(slices.Clone(watched), constraintGVK)
	}
	return watched
}

func (r *Reconciler) setup(mgr ctrl.Manager) error {
	toAll := handler.EnqueueRequestsFromMapFunc(r.everyCDI)
	b := ctrl.NewControllerManagedBy(mgr).Named("cdi").For(&cdiv1.CDI{}).
		Watches(&appsv1.Deployment{}, toAll).Watches(&corev1.Secret{}, toAll).Watches(&corev1.ConfigMap{}, toAll)
	for _, gvk := range r.kinds() {
		b = b.WatchesMetadata(drift.Metadata(gvk), toAll)
	}
	c, err := b.Build(r)
	r.controller = c
	return err
}

func (r *Reconciler) everyCDI(ctx context.Context, _ client.Object) []reconcile.Request {
	var all cdiv1.CDIList
	if err := r.client.List(ctx, &all); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range all.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
	}
	return out
}

// Reconcile brings the installation to what one CDI resource says and its status to what is true.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	cdi := &cdiv1.CDI{}
	if err := r.client.Get(ctx, req.NamespacedName, cdi); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	before := cdi.DeepCopy()
	next, err := r.bring(ctx, cdi)
	if apierrors.IsConflict(err) {
		return reconcile.Result{}, err // somebody was faster: not worth a word, what is there now is looked at again
	}
	r.report(ctx, cdi, err)
	if errors.Is(err, operand.ErrWaiting) {
		next, err = operand.Patience, nil // what is waited for is watched; what does not go is looked after
	}
	if patchErr := r.patch(ctx, before, cdi); patchErr != nil {
		err = errors.Join(err, patchErr)
	}
	return reconcile.Result{RequeueAfter: next}, err
}

func (r *Reconciler) bring(ctx context.Context, cdi *cdiv1.CDI) (time.Duration, error) {
	first, err := r.first(ctx)
	if err != nil {
		return 0, err
	}
	switch {
	case first != cdi.Name && cdi.DeletionTimestamp != nil:
		controllerutil.RemoveFinalizer(cdi, names.FinalizerOperator)
		return 0, nil
	case first != cdi.Name:
		return 0, fmt.Errorf("CDI %s is in charge; change that one and delete this", first)
	case cdi.DeletionTimestamp != nil:
		return 0, r.remove(ctx, cdi)
	default:
		return r.install(ctx, cdi)
	}
}

// first is the CDI resource that counts: the oldest.
func (r *Reconciler) first(ctx context.Context) (string, error) {
	var all cdiv1.CDIList
	if err := r.client.List(ctx, &all); err != nil {
		return "", fmt.Errorf("list the CDI resources: %w", err)
	}
	var oldest *cdiv1.CDI
	for i := range all.Items {
		c := &all.Items[i]
		if oldest == nil || c.CreationTimestamp.Before(&oldest.CreationTimestamp) ||
			(c.CreationTimestamp.Equal(&oldest.CreationTimestamp) && c.Name < oldest.Name) {
			oldest = c
		}
	}
	if oldest == nil {
		return "", nil
	}
	return oldest.Name, nil
}

// patch writes what has changed. The kind has no status subresource (contract): status, finalizers and annotations go together.
func (r *Reconciler) patch(ctx context.Context, before, after *cdiv1.CDI) error {
	if equality.Semantic.DeepEqual(before, after) {
		return nil
	}
	if err := r.client.Patch(ctx, after.DeepCopy(), client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write CDI %s: %w", after.Name, err)
	}
	return nil
}

func (r *Reconciler) install(ctx context.Context, cdi *cdiv1.CDI) (time.Duration, error) {
	controllerutil.AddFinalizer(cdi, names.FinalizerOperator)
	opts := r.renderOptions(cdi)
	next, bundle, err := r.certificates(ctx, cdi, opts)
	if err != nil {
		return 0, err
	}
	opts.CABundle = bundle
	if err := r.signingKey(ctx, opts); err != nil {
		return next, err
	}
	if err := r.definitions(ctx); err != nil {
		return next, err
	}
	if err := r.apply(ctx, cdi, components.Static(opts)); err != nil {
		return next, err
	}
	if err := r.workloads(ctx, cdi, opts); err != nil {
		return next, err
	}
	if err := r.apply(ctx, cdi, components.Registrations(opts)); err != nil {
		return next, err
	}
	// Its kind may not be served yet; the definition's own status brings us back.
	if err := r.config(ctx, cdi); err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
		return next, err
	}
	return next, r.prune(ctx, opts)
}

// apply applies what is rendered with the changes the resource asks for.
func (r *Reconciler) apply(ctx context.Context, cdi *cdiv1.CDI, objects []runtime.Object) error {
	objects, err := customize(objects, cdi.Spec.CustomizeComponents)
	if err != nil {
		return err
	}
	return r.applier.ApplyAll(ctx, objects)
}

func (r *Reconciler) renderOptions(cdi *cdiv1.CDI) components.Options {
	infra := cdi.Spec.Infra
	opts := components.Options{
		Namespace: r.namespace, Registry: r.images.Registry, Tag: r.images.Tag, PullPolicy: r.images.PullPolicy,
		Infra:    pods.Placement{NodeSelector: infra.NodeSelector, Affinity: infra.Affinity, Tolerations: infra.Tolerations},
		Replicas: map[string]int32{}, Rendering: true, Verbosity: 2, SecurityConstraints: r.constraints,
	}
	for name, wanted := range map[string]*int32{
		names.DeploymentController: infra.DeploymentReplicas, names.DeploymentAPIServer: infra.APIServerReplicas,
		names.DeploymentUploadProxy: infra.UploadProxyReplicas,
	} {
		if wanted != nil {
			opts.Replicas[name] = *wanted
		}
	}
	if cdi.Spec.ImagePullPolicy != "" {
		opts.PullPolicy = cdi.Spec.ImagePullPolicy
	}
	if cdi.Spec.PriorityClass != nil {
		opts.PriorityClass = string(*cdi.Spec.PriorityClass)
	}
	if c := cdi.Spec.Config; c != nil {
		opts.PullSecrets = c.ImagePullSecrets
		opts.Rendering = c.WebhookPvcRendering != hooks.RenderingDisabled
		if c.LogVerbosity != nil {
			opts.Verbosity = int(*c.LogVerbosity)
		}
	}
	return opts
}

// definitions applies the CRDs and waits for nothing: a kind that is not served yet makes later steps fail and be tried again
// when its definition's status changes.
func (r *Reconciler) definitions(ctx context.Context) error {
	all, err := crds.Storage()
	if err != nil {
		return err
	}
	objects := make([]runtime.Object, 0, len(all))
	for _, crd := range all {
		labels := crd.GetLabels()
		labels[names.LabelManagedBy] = managedBy
		crd.SetLabels(labels)
		objects = append(objects, crd)
	}
	return r.applier.ApplyAll(ctx, objects)
}

// workloads rolls out what runs. A first installation starts everything at once; an update goes one by one, so that whoever
// is served is served by what is wholly old or wholly new.
func (r *Reconciler) workloads(ctx context.Context, cdi *cdiv1.CDI, opts components.Options) error {
	update := cdi.Status.ObservedVersion != "" && cdi.Status.ObservedVersion != targetVersion(opts)
	for _, d := range components.Workloads(opts) {
		if err := r.apply(ctx, cdi, []runtime.Object{d}); err != nil {
			return err
		}
		if !update {
			continue
		}
		if waiting, err := r.waiting(ctx, d); err != nil || waiting != "" {
			return err
		}
	}
	return nil
}

// waiting tells what a Deployment is still waiting for.
func (r *Reconciler) waiting(ctx context.Context, want *appsv1.Deployment) (string, error) {
	live := &appsv1.Deployment{}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(want), live)
	if apierrors.IsNotFound(err) {
		return want.Name + " does not exist yet", nil
	}
	if err != nil {
		return "", fmt.Errorf("read Deployment %s: %w", want.Name, err)
	}
	return rollout.Waiting(live), nil
}

// watchConfig follows the CDIConfig as soon as its kind is served.
func (r *Reconciler) watchConfig() error {
	if r.configWatched.Load() {
		return nil
	}
	if _, err := r.mapper.RESTMapping(configGVK.GroupKind(), configGVK.Version); err != nil {
		return err
	}
	events := handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, c *cdiv1.CDIConfig) []reconcile.Request { return r.everyCDI(ctx, c) })
	if err := r.controller.Watch(source.Kind(r.cache, &cdiv1.CDIConfig{}, events)); err != nil {
		return fmt.Errorf("watch the CDIConfig: %w", err)
	}
	r.configWatched.Store(true)
	return nil
}
