// Package operator is the role that reconciles the KubeVirt resource into everything that is installed.
package operator

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	klabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"virtctl/internal/apply"
	"virtctl/internal/drift"
	"virtctl/internal/footprint"
	"virtctl/internal/install/components"
	"virtctl/internal/server/leading"
	"virtctl/internal/server/serving"
)

// FieldManager owns what the operator applies.
const FieldManager = "virt-operator"

type options struct {
	namespace   string
	images      images
	metricsPort int
	webhookPort int
	verbosity   int
}

// images says where the platform's images are unless the KubeVirt resource says otherwise.
type images struct {
	registry, tag string
	pullPolicy    corev1.PullPolicy
}

// Command is `virt-server operator`.
func Command() *cobra.Command {
	opts := options{
		namespace: os.Getenv("NAMESPACE"),
		images: images{
			registry: os.Getenv("IMAGE_REGISTRY"), tag: os.Getenv("IMAGE_TAG"),
			pullPolicy: corev1.PullPolicy(os.Getenv("IMAGE_PULL_POLICY")),
		},
	}
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Reconcile the KubeVirt resource into the installed platform",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVar(&opts.namespace, "namespace", opts.namespace, "namespace the platform lives in")
	cmd.Flags().StringVar(&opts.images.registry, "image-registry", opts.images.registry, "registry and path of the platform's images")
	cmd.Flags().StringVar(&opts.images.tag, "image-tag", opts.images.tag, "tag of the platform's images")
	cmd.Flags().IntVar(&opts.metricsPort, "port", 8443, "port of metrics and health")
	cmd.Flags().IntVar(&opts.webhookPort, "webhook-port", 8444, "port of the webhooks that guard the KubeVirt resource")
	cmd.Flags().IntVarP(&opts.verbosity, "verbosity", "v", 2, "log verbosity")
	return cmd
}

func run(ctx context.Context, opts options) error {
	if opts.namespace == "" || opts.images.registry == "" || opts.images.tag == "" {
		return fmt.Errorf("namespace, image registry and image tag are needed: set NAMESPACE, IMAGE_REGISTRY and IMAGE_TAG")
	}
	ctrl.SetLogger(klog.Background())
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	config.QPS = -1 // the API server's priority and fairness is the limit
	ready := &serving.Readiness{}
	mgr, err := newManager(config, opts, ready)
	if err != nil {
		return err
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	r := &Reconciler{
		client: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: opts.namespace, images: opts.images,
		applier: &drift.Tracker{
			Applier: apply.Applier{Client: dyn, Mapper: mgr.GetRESTMapper(), Manager: FieldManager}, Reader: mgr.GetClient(),
		},
	}
	if err := r.setup(mgr); err != nil {
		return err
	}
	if err := addWebhooks(mgr, opts, ready.Expect("webhooks")); err != nil {
		return err
	}
	if err := mgr.Add(footprint.Trimmer{Log: mgr.GetLogger()}); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// Scheme knows every type the operator reads as itself; everything else is watched by its metadata only.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1.AddToScheme(scheme))
	return scheme
}

func newManager(config *rest.Config, opts options, ready *serving.Readiness) (manager.Manager, error) {
	ours := klabels.SelectorFromSet(klabels.Set{components.ManagedByLabel: components.ManagedBy})
	inNamespace := map[string]cache.Config{opts.namespace: {}}
	managed := manager.Options{
		Scheme: Scheme(),
		Cache: cache.Options{
			DefaultLabelSelector: ours,
			ByObject: map[client.Object]cache.ByObject{
				&v1.KubeVirt{}:             {Label: klabels.Everything()},
				drift.Metadata(nodeGVK):    {Label: klabels.Everything()},
				&appsv1.Deployment{}:       {Namespaces: inNamespace},
				&appsv1.DaemonSet{}:        {Namespaces: inNamespace},
				&corev1.Secret{}:           {Namespaces: inNamespace},
				&corev1.ConfigMap{}:        {Namespaces: inNamespace},
				drift.Metadata(serviceGVK): {Namespaces: inNamespace},
				drift.Metadata(accountGVK): {Namespaces: inNamespace},
				drift.Metadata(budgetGVK):  {Namespaces: inNamespace},
			},
			DefaultTransform: cache.TransformStripManagedFields(),
		},
		Metrics: metricsserver.Options{
			BindAddress: fmt.Sprintf(":%d", opts.metricsPort), SecureServing: true,
			ExtraHandlers: healthHandlers(ready),
		},
		HealthProbeBindAddress: "0",
	}
	replica, err := leading.Self(FieldManager, opts.namespace)
	if err != nil {
		return nil, err
	}
	if err := replica.Elect(config, &managed); err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, managed)
	if err != nil {
		return nil, fmt.Errorf("start the manager: %w", err)
	}
	return mgr, mgr.AddHealthzCheck("ping", healthz.Ping)
}
