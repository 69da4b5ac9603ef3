package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"virtctl/internal/cdi/names"
	"virtctl/internal/footprint"
	"virtctl/internal/server/appear"
	"virtctl/internal/server/cdi/controller/claim"
	"virtctl/internal/server/cdi/controller/clonetoken"
	"virtctl/internal/server/cdi/controller/configuration"
	"virtctl/internal/server/cdi/controller/datasource"
	"virtctl/internal/server/cdi/controller/datavolume"
	"virtctl/internal/server/cdi/controller/early"
	"virtctl/internal/server/cdi/controller/importcron"
	"virtctl/internal/server/cdi/controller/index"
	"virtctl/internal/server/cdi/controller/metric"
	"virtctl/internal/server/cdi/controller/populator"
	"virtctl/internal/server/cdi/controller/profile"
	"virtctl/internal/server/cdi/controller/progress"
	"virtctl/internal/server/cdi/controller/settings"
	"virtctl/internal/server/cdi/controller/snapshot"
	"virtctl/internal/server/cdi/controller/transfer"
	"virtctl/internal/server/serving"
	"virtctl/internal/version"
)

// component is the Lease's name, the events' source and the user agent; workerProgram is what the worker's image must have.
const (
	component     = names.LeaseController
	workerProgram = names.WorkerBinary
)

// NewScheme knows the kinds the controllers work with.
func NewScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, cdi.AddToScheme} {
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
	// The API server's priority and fairness throttles, not the client.
	cluster.QPS = -1
	cluster.UserAgent = component + "/" + version.Version()
	manyReplicas := true
	options := manager.Options{
		Scheme:                 scheme,
		Cache:                  cacheOptions(f.Namespace),
		Metrics:                serving.Options(f.Port, f.CertDir, component),
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
	return mgr, addControllers(ctx, mgr, f)
}

func addControllers(ctx context.Context, mgr manager.Manager, f Flags) error {
	if err := mgr.Add(footprint.Trimmer{Log: mgr.GetLogger()}); err != nil {
		return fmt.Errorf("keep memory small: %w", err)
	}
	metrics, err := metric.New(registry(f), func() float64 { return datavolume.Pending(mgr.GetClient()) })
	if err != nil {
		return err
	}
	partial, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client for metadata: %w", err)
	}
	snapshotClasses := &appear.Kind{
		Definition: snapshot.ClassDefinition, Object: snapshot.NewClass(), Metadata: partial, Cache: mgr.GetCache(),
	}
	if err := mgr.Add(snapshotClasses); err != nil {
		return fmt.Errorf("watch for snapshot classes: %w", err)
	}
	snapshots := &appear.Kind{Definition: snapshot.Definition, Object: snapshot.New(), Metadata: partial, Cache: mgr.GetCache()}
	if err := mgr.Add(snapshots); err != nil {
		return fmt.Errorf("watch for snapshots: %w", err)
	}
	// The seed's role allows events of the core group only, which the newer recorder does not write.
	recorder := mgr.GetEventRecorderFor(component) //nolint:staticcheck
	source := &settings.Source{Reader: mgr.GetClient(), Image: f.WorkerImage, PullPolicy: corev1.PullPolicy(f.PullPolicy)}
	scraper := progress.New()
	tokens := &clonetoken.Keeper{Live: mgr.GetAPIReader(), Namespace: f.Namespace, Now: time.Now}
	return errors.Join(
		datavolume.New(datavolume.Options{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: recorder, Settings: source, Tokens: tokens, Progress: scraper,
			Snapshots: snapshots,
		}).Setup(mgr),
		claim.New(claim.Options{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: recorder, Settings: source, Tokens: tokens, Namespace: f.Namespace,
			Ear: early.New(ctx),
		}).Setup(mgr),
		profile.New(mgr.GetClient(), mgr.GetAPIReader(), metrics).Setup(mgr, snapshotClasses),
		configuration.New(mgr.GetClient(), mgr.GetAPIReader(), f.Namespace).Setup(mgr),
		datasource.New(mgr.GetClient(), snapshots).Setup(mgr),
		importcron.New(importcron.Options{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Recorder: recorder, Settings: source, Snapshots: snapshots, Metrics: metrics,
			Namespace: f.Namespace, Digest: f.Digest,
		}).Setup(mgr),
		transfer.New(mgr.GetClient()).Setup(mgr),
		populator.New(populator.Options{
			Client: mgr.GetClient(), Recorder: recorder, Settings: source, Tokens: tokens, Progress: scraper,
		}).Setup(mgr),
	)
}

// registry is where the metrics port finds the controller's own metrics.
func registry(f Flags) prometheus.Registerer {
	if f.Port == 0 {
		return prometheus.NewRegistry()
	}
	return ctrlmetrics.Registry
}
