// Package configuration keeps the status of the one CDIConfig: what its specification, the cluster's storage and its ways in come to.
package configuration

import (
	"context"
	"encoding/pem"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"virtctl/internal/cdi/names"
	"virtctl/internal/server/cdi/controller/settings"
	"virtctl/internal/server/cdi/controller/workerpod"
	"virtctl/internal/server/writer"
)

// Reconciler works on the CDIConfig.
type Reconciler struct {
	client    client.Client
	live      client.Reader
	namespace string
	configs   *writer.Writer
	// routes knows OpenShift's Routes of our namespace, the only ones we may read; nil elsewhere.
	routes client.Reader
}

// New gives a Reconciler.
func New(c client.Client, live client.Reader, namespace string) *Reconciler {
	return &Reconciler{client: c, live: live, namespace: namespace, configs: writer.New(c)}
}

func routeKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "route.openshift.io", Version: "v1", Kind: "Route"}
}

// Setup starts the reconciler with the manager.
func (r *Reconciler) Setup(mgr ctrl.Manager) error {
	toConfig := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: names.CDIConfig}}}
	})
	b := ctrl.NewControllerManagedBy(mgr).Named("cdiconfig").
		For(&cdi.CDIConfig{}).
		Watches(&storagev1.StorageClass{}, toConfig).
		Watches(&networkingv1.Ingress{}, toConfig)
	// OpenShift's API is there from the cluster's first day or never.
	if _, err := mgr.GetRESTMapper().RESTMapping(routeKind().GroupKind(), routeKind().Version); err == nil {
		routes, err := cache.New(mgr.GetConfig(), cache.Options{
			HTTPClient: mgr.GetHTTPClient(), Mapper: mgr.GetRESTMapper(), Scheme: mgr.GetScheme(),
			DefaultNamespaces: map[string]cache.Config{r.namespace: {}},
		})
		if err != nil {
			return fmt.Errorf("watch routes: %w", err)
		}
		if err := mgr.Add(routes); err != nil {
			return fmt.Errorf("watch routes: %w", err)
		}
		r.routes = routes
		route := &unstructured.Unstructured{}
		route.SetGroupVersionKind(routeKind())
		b = b.WatchesRawSource(source.Kind[client.Object](routes, route, toConfig))
	}
	return b.Complete(r)
}

// Reconcile brings the status up to date.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	config := &cdi.CDIConfig{}
	if err := r.client.Get(ctx, req.NamespacedName, config); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if req.Name != names.CDIConfig || r.configs.Stale(config) || config.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	var classes storagev1.StorageClassList
	if err := r.client.List(ctx, &classes); err != nil {
		return reconcile.Result{}, fmt.Errorf("list the storage classes: %w", err)
	}
	after := config.DeepCopy()
	fill(after, classes.Items)
	if err := r.wayIn(ctx, after); err != nil {
		return reconcile.Result{}, err
	}
	if _, err := r.configs.Patch(ctx, config, after); err != nil {
		if !apierrors.IsNotFound(err) {
			return reconcile.Result{}, fmt.Errorf("write the status of CDIConfig: %w", err)
		}
	}
	return reconcile.Result{}, nil
}

// fill computes what needs no look at the network.
func fill(c *cdi.CDIConfig, classes []storagev1.StorageClass) {
	s := &c.Status
	s.ScratchSpaceStorageClass = ""
	if wish := c.Spec.ScratchSpaceStorageClass; wish != nil {
		for i := range classes {
			if classes[i].Name == *wish {
				s.ScratchSpaceStorageClass = *wish
			}
		}
	}
	resources := workerpod.DefaultResources()
	if own := c.Spec.PodResourceRequirements; own != nil {
		for name, quantity := range own.Limits {
			resources.Limits[name] = quantity
		}
		for name, quantity := range own.Requests {
			resources.Requests[name] = quantity
		}
	}
	s.DefaultPodResourceRequirements = &resources
	s.FilesystemOverhead = overhead(c.Spec.FilesystemOverhead, classes)
	s.Preallocation = c.Spec.Preallocation != nil && *c.Spec.Preallocation
	s.ImagePullSecrets = c.Spec.ImagePullSecrets
	s.ImportProxy = c.Spec.ImportProxy
}

// overhead gives each class its share, so that others need not know the rules.
func overhead(own *cdi.FilesystemOverhead, classes []storagev1.StorageClass) *cdi.FilesystemOverhead {
	out := &cdi.FilesystemOverhead{Global: settings.DefaultOverhead, StorageClass: map[string]cdi.Percent{}}
	if own != nil && valid(own.Global) {
		out.Global = own.Global
	}
	for i := range classes {
		out.StorageClass[classes[i].Name] = out.Global
		if own != nil && valid(own.StorageClass[classes[i].Name]) {
			out.StorageClass[classes[i].Name] = own.StorageClass[classes[i].Name]
		}
	}
	return out
}

func valid(p cdi.Percent) bool {
	f, err := strconv.ParseFloat(string(p), 64)
	return err == nil && f >= 0 && f < 1
}

// wayIn finds the URL of the upload proxy: what the administrator says, else an Ingress, else a Route.
func (r *Reconciler) wayIn(ctx context.Context, c *cdi.CDIConfig) error {
	s := &c.Status
	s.UploadProxyURL, s.UploadProxyCA = nil, nil
	if own := c.Spec.UploadProxyURLOverride; own != nil {
		s.UploadProxyURL = own
		return nil
	}
	var ingresses networkingv1.IngressList
	if err := r.client.List(ctx, &ingresses, client.InNamespace(r.namespace)); err != nil {
		return fmt.Errorf("list the ingresses: %w", err)
	}
	for i := range ingresses.Items {
		if host := ingressHost(&ingresses.Items[i]); host != "" {
			s.UploadProxyURL = &host
			return r.ingressCA(ctx, s, &ingresses.Items[i])
		}
	}
	if r.routes == nil {
		return nil
	}
	routes := &unstructured.UnstructuredList{}
	routes.SetGroupVersionKind(routeKind().GroupVersion().WithKind("RouteList"))
	if err := r.routes.List(ctx, routes, client.InNamespace(r.namespace)); err != nil {
		return fmt.Errorf("list the routes: %w", err)
	}
	for i := range routes.Items {
		if host := routeHost(&routes.Items[i]); host != "" {
			s.UploadProxyURL = &host
			return r.routeCA(ctx, s)
		}
	}
	return nil
}

func ingressHost(in *networkingv1.Ingress) string {
	if b := in.Spec.DefaultBackend; b != nil && b.Service != nil && b.Service.Name == names.ServiceUploadProxy && len(in.Spec.Rules) > 0 {
		return in.Spec.Rules[0].Host
	}
	for _, rule := range in.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for _, p := range rule.HTTP.Paths {
			if p.Backend.Service != nil && p.Backend.Service.Name == names.ServiceUploadProxy && rule.Host != "" {
				return rule.Host
			}
		}
	}
	return ""
}

func routeHost(route *unstructured.Unstructured) string {
	if to, _, _ := unstructured.NestedString(route.Object, "spec", "to", "name"); to != names.ServiceUploadProxy {
		return ""
	}
	ingress, _, _ := unstructured.NestedSlice(route.Object, "status", "ingress")
	if len(ingress) > 0 {
		if first, ok := ingress[0].(map[string]any); ok {
			if host, ok := first["host"].(string); ok {
				return host
			}
		}
	}
	return ""
}

// ingressCA publishes the certificate that the Ingress shows, which clients may have to trust.
func (r *Reconciler) ingressCA(ctx context.Context, s *cdi.CDIConfigStatus, in *networkingv1.Ingress) error {
	for _, t := range in.Spec.TLS {
		if t.SecretName == "" {
			continue
		}
		secret := &corev1.Secret{}
		if err := r.live.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: t.SecretName}, secret); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("read the certificate of ingress %s: %w", in.Name, err)
		}
		publish(s, secret.Data[corev1.TLSCertKey])
		return nil
	}
	return nil
}

// routeCA publishes the cluster's own authority, which signs what Routes show.
func (r *Reconciler) routeCA(ctx context.Context, s *cdi.CDIConfigStatus) error {
	bundle := &corev1.ConfigMap{}
	if err := r.live.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: "kube-root-ca.crt"}, bundle); err != nil {
		return client.IgnoreNotFound(err)
	}
	publish(s, []byte(bundle.Data["ca.crt"]))
	return nil
}

// publish keeps the certificates of a PEM text, and nothing else that may be in it.
func publish(s *cdi.CDIConfigStatus, text []byte) {
	var out []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	if len(out) > 0 {
		all := string(out)
		s.UploadProxyCA = &all
	}
}
