// Package operator is the role that reconciles the CDI resource into everything of CDI that is installed.
package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	klabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"virtctl/internal/apply"
	"virtctl/internal/cdi/names"
	"virtctl/internal/drift"
	"virtctl/internal/footprint"
	"virtctl/internal/server/leading"
)

// FieldManager owns what the operator applies.
const FieldManager = "cdi-operator"

// Options is how the operator is run.
type Options struct {
	// Namespace is where the platform is installed.
	Namespace string
	Images    Images
	// Port of metrics and health; 0 serves nothing.
	Port int
	// Replica is nil only where exactly one runs.
	Replica *leading.Replica
}

// Images says where the platform's images are.
type Images struct {
	Registry, Tag string
	PullPolicy    corev1.PullPolicy
}

// Command is `virt-server cdi-operator`.
func Command() *cobra.Command {
	verbosity := 0
	opts := Options{
		Namespace: os.Getenv("NAMESPACE"),
		Images: Images{
			Registry: os.Getenv("IMAGE_REGISTRY"), Tag: os.Getenv("IMAGE_TAG"),
			PullPolicy: corev1.PullPolicy(os.Getenv("IMAGE_PULL_POLICY")),
		},
	}
	cmd := &cobra.Command{
		Use:   "cdi-operator",
		Short: "Reconcile the CDI resource into the installed data importer",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), opts)
		},
	}
	cmd.Flags().StringVar(&opts.Namespace, "namespace", opts.Namespace, "namespace the platform lives in")
	cmd.Flags().StringVar(&opts.Images.Registry, "image-registry", opts.Images.Registry, "registry and path of the platform's images")
	cmd.Flags().StringVar(&opts.Images.Tag, "image-tag", opts.Images.Tag, "tag of the platform's images")
	cmd.Flags().IntVar(&opts.Port, "port", 8443, "port of metrics and health")
	cmd.Flags().IntVarP(&verbosity, "verbosity", "v", 2, "log verbosity")
	return cmd
}

func run(ctx context.Context, opts Options) error {
	if opts.Namespace == "" || opts.Images.Registry == "" || opts.Images.Tag == "" {
		return fmt.Errorf("namespace, image registry and image tag are needed: set NAMESPACE, IMAGE_REGISTRY and IMAGE_TAG")
	}
	ctrl.SetLogger(klog.Background())
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	if opts.Replica, err = leading.Self(FieldManager, opts.Namespace); err != nil {
		return err
	}
	mgr, err := New(config, opts)
	if err != nil {
		return err
	}
	if err := mgr.Add(footprint.Trimmer{Log: mgr.GetLogger()}); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// New puts the operator together.
func New(config *rest.Config, opts Options) (manager.Manager, error) {
	mgr, err := newManager(config, opts)
	if err != nil {
		return nil, err
	}
	return mgr, addReconciler(mgr, opts)
}

func addReconciler(mgr ctrl.Manager, opts Options) error {
	dyn, err := dynamic.NewForConfig(mgr.GetConfig())
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	r := &Reconciler{
		client: mgr.GetClient(), direct: mgr.GetAPIReader(), mapper: mgr.GetRESTMapper(), cache: mgr.GetCache(),
		namespace: opts.Namespace, images: opts.Images,
		applier: &drift.Tracker{
			Applier: apply.Applier{Client: dyn, Mapper: mgr.GetRESTMapper(), Manager: FieldManager}, Reader: mgr.GetClient(),
		},
	}
	if r.ready, err = readyMetric(); err != nil {
		return err
	}
	_, err = r.mapper.RESTMapping(constraintGVK.GroupKind(), constraintGVK.Version)
	r.constraints = err == nil
	return r.setup(mgr)
}

// Scheme knows every type the operator reads as itself; everything else is watched by its metadata only.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(appsv1.AddToScheme(scheme))
	utilruntime.Must(cdiv1.AddToScheme(scheme))
	return scheme
}

func newManager(config *rest.Config, opts Options) (manager.Manager, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server's priority and fairness is the limit
	// Its warnings about the contract's own names are no news.
	config.WarningHandler = rest.NoWarnings{}
	ours := klabels.SelectorFromSet(klabels.Set{names.LabelManagedBy: managedBy})
	inNamespace, skip := map[string]cache.Config{opts.Namespace: {}}, true
	healthy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	managed := manager.Options{
		Scheme: Scheme(),
		Cache: cache.Options{
			DefaultLabelSelector: ours,
			ByObject: map[client.Object]cache.ByObject{
				&cdiv1.CDI{}:               {Label: klabels.Everything()},
				&appsv1.Deployment{}:       {Namespaces: inNamespace},
				&corev1.Secret{}:           {Namespaces: inNamespace},
				&corev1.ConfigMap{}:        {Namespaces: inNamespace},
				drift.Metadata(serviceGVK): {Namespaces: inNamespace},
				drift.Metadata(accountGVK): {Namespaces: inNamespace},
				drift.Metadata(budgetGVK):  {Namespaces: inNamespace},
				drift.Metadata(roleGVK):    {Namespaces: inNamespace},
			},
			DefaultTransform: cache.TransformStripManagedFields(),
		},
		Metrics: metricsserver.Options{
			BindAddress: address(opts.Port), SecureServing: true,
			ExtraHandlers: map[string]http.Handler{"/healthz": healthy, "/readyz": healthy},
		},
		HealthProbeBindAddress: "0",
		// Names matter to metrics only; tests run several operators in one process.
		Controller: crconfig.Controller{SkipNameValidation: &skip},
	}
	if err := opts.Replica.Elect(config, &managed); err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, managed)
	if err != nil {
		return nil, fmt.Errorf("start the manager: %w", err)
	}
	return mgr, nil
}

// readyMetric is the public contract's word on whether CDI is deployed.
func readyMetric() (prometheus.Gauge, error) {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubevirt_cdi_cr_ready", Help: "CDI install ready"})
	err := crmetrics.Registry.Register(gauge)
	var known prometheus.AlreadyRegisteredError
	if errors.As(err, &known) {
		if g, ok := known.ExistingCollector.(prometheus.Gauge); ok {
			return g, nil
		}
	}
	return gauge, err
}

func address(port int) string {
	if port == 0 {
		return "0"
	}
	return fmt.Sprintf(":%d", port)
}
