package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	v1 "kubevirt.io/api/core/v1"
	instancetypev1beta1 "kubevirt.io/api/instancetype/v1beta1"
	migrationsv1alpha1 "kubevirt.io/api/migrations/v1alpha1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/clusterconfig/follow"
	"virtctl/internal/footprint"
	"virtctl/internal/server/controller/datavolume"
	"virtctl/internal/server/controller/evacuation"
	"virtctl/internal/server/controller/index"
	"virtctl/internal/server/controller/metrics"
	"virtctl/internal/server/controller/migration"
	"virtctl/internal/server/controller/mountfailure"
	"virtctl/internal/server/controller/node"
	"virtctl/internal/server/controller/replicaset"
	"virtctl/internal/server/controller/vm"
	"virtctl/internal/server/controller/vmi"
	"virtctl/internal/server/controller/workloadupdate"
	"virtctl/internal/server/serving"
	"virtctl/internal/version"
)

// component is the Lease's name, the events' source and the user agent.
const component = "virt-controller"

// NewScheme knows the kinds the controllers work with.
func NewScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme, instancetypev1beta1.AddToScheme, migrationsv1alpha1.AddToScheme, cdi.AddToScheme} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("build the scheme: %w", err)
		}
	}
	return s, nil
}

// NewManager puts the controllers together.
func NewManager(ctx context.Context, cluster *rest.Config, f Flags) (manager.Manager, error) {
	scheme, err := NewScheme()
	if err != nil {
		return nil, err
	}
	cluster = rest.CopyConfig(cluster)
	// The API server's priority and fairness throttles, not the client: a thousand VMs start as fast as it allows.
	cluster.QPS = -1
	cluster.UserAgent = component + "/" + version.Version()
	metrics := serving.Options(f.Port, f.CertDir, component)
	delete(metrics.ExtraHandlers, "/healthz") // served below, when there is a configuration to tell about
	manyReplicas := true
	options := manager.Options{
		Scheme:                 scheme,
		Cache:                  cacheOptions(f.Namespace),
		Metrics:                metrics,
		HealthProbeBindAddress: "0",
		// Names are unique in a program; tests run several replicas in one.
		Controller: config.Controller{SkipNameValidation: &manyReplicas},
	}
	if err := f.Replica.Elect(cluster, &options); err != nil {
		return nil, err
	}
	mgr, err := manager.New(cluster, options)
	if err != nil {
		return nil, fmt.Errorf("prepare the controllers: %w", err)
	}
	if err := index.Add(ctx, mgr.GetFieldIndexer()); err != nil {
		return nil, err
	}
	source, err := follow.Cache(ctx, mgr.GetCache())
	if err != nil {
		return nil, err
	}
	if err := mgr.AddMetricsServerExtraHandler("/healthz", serving.Health(source)); err != nil {
		return nil, fmt.Errorf("serve /healthz: %w", err)
	}
	return mgr, addControllers(mgr, source, f)
}

func addControllers(mgr manager.Manager, source *clusterconfig.Source, f Flags) error {
	core, err := corev1client.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client for events: %w", err)
	}
	mounts := mountfailure.New(core, mgr.GetClient())
	if err := mgr.Add(mounts); err != nil {
		return fmt.Errorf("watch mount failures: %w", err)
	}
	partial, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client for metadata: %w", err)
	}
	if err := ctrlmetrics.Registry.Register(&metrics.Collector{
		Reader: mgr.GetClient(), Leads: mgr.Elected(), Image: f.LauncherImage,
	}); err != nil {
		return fmt.Errorf("offer metrics: %w", err)
	}
	data := datavolume.New(partial, mgr.GetCache(), mgr.GetClient(), mgr.GetAPIReader())
	if err := mgr.Add(footprint.Trimmer{Log: mgr.GetLogger()}); err != nil {
		return fmt.Errorf("keep memory small: %w", err)
	}
	if err := mgr.Add(data); err != nil {
		return fmt.Errorf("watch DataVolumes: %w", err)
	}
	recorder := mgr.GetEventRecorder(component)
	vmis := vmi.New(vmi.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Config: source, Recorder: recorder,
		LauncherImage: f.LauncherImage, PullSecrets: f.PullSecrets, MountFailures: mounts, DataVolumes: data,
	})
	vms := vm.New(vm.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Config: source, Recorder: recorder, DataVolumes: data, Jitter: rand.Float64,
	})
	return errors.Join(
		vmis.Setup(mgr, mounts.Failures(), data.Follow),
		vms.Setup(mgr, data.Follow),
		node.New(mgr.GetClient(), recorder, f.Namespace).Setup(mgr),
		replicaset.New(mgr.GetClient(), recorder).Setup(mgr),
		migration.New(migration.Options{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Config: source, Recorder: recorder, LauncherImage: f.LauncherImage,
		}).Setup(mgr),
		evacuation.New(evacuation.Options{Client: mgr.GetClient(), Config: source, Recorder: recorder}).Setup(mgr),
		workloadupdate.New(workloadupdate.Options{Client: mgr.GetClient(), Config: source, Recorder: recorder}).Setup(mgr),
	)
}
