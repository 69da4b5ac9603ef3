// Package handler is the node agent: it joins the launchers of its node with the API.
package handler

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/clusterconfig/follow"
	"virtctl/internal/footprint"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/server/handler/certs"
	"virtctl/internal/server/handler/devices"
	"virtctl/internal/server/handler/discovery"
	"virtctl/internal/server/handler/hostdevices"
	"virtctl/internal/server/handler/launchers"
	"virtctl/internal/server/handler/metrics"
	"virtctl/internal/server/handler/migration"
	"virtctl/internal/server/handler/node"
	"virtctl/internal/server/handler/subresource"
	"virtctl/internal/server/handler/vmi"
	"virtctl/internal/server/serving"
)

// Options are the command line's.
type Options struct {
	NodeName string
	PodIP    string
	// Namespace is where the platform is installed; the node's lease is there.
	Namespace string
	// KubeletDir is where the kubelet of this node keeps its pods and device plugins.
	KubeletDir string
	// ProbeDir holds what the launcher image found out about this node.
	ProbeDir string
	// Port serves metrics and health, ConsolePort virt-api.
	Port, ConsolePort int
	// MigrationPort takes migrations from other nodes; MigrationCerts is the directory of the certificate for sending some there.
	MigrationPort  int
	MigrationCerts string
	// MaxDevices is how many pods can use a device at once.
	MaxDevices int
	Certs      certs.Files
}

const (
	// workers is how many virtual machines start at once; each mostly waits for its launcher.
	workers = 16
	// Waits after a failed start, growing from the first to the last.
	firstRetry = time.Second
	lastRetry  = 2 * time.Minute
	// lastMigrations is how long migrations may go on after we were told to end, lastWords what then is left to hand streams over. The
	// pod's grace period is a bit longer than both.
	lastMigrations = 5 * time.Minute
	lastWords      = 15 * time.Second
	// findPatience is how long callers wait for a launcher that is not known yet.
	findPatience = 5 * time.Second
)

// agent is everything that Run puts together.
type agent struct {
	options Options
	log     logr.Logger
	manager ctrl.Manager
	ready   *serving.Readiness
	set     *launchers.Set
	connect launchers.ConnectFunc
	probe   *node.Probe
	config  *clusterconfig.Source
	// arrivals holds the VirtualMachineInstances that shall come here by migration.
	arrivals   cache.Cache
	migrations *migration.Node
	queue      atomic.Pointer[workqueue.TypedRateLimitingInterface[reconcile.Request]]
}

// Run works until stop ends, and then until the migrations under way have ended: the next virt-handler comes only when this one has gone,
// so until then all of the node's machines are served. Consoles are left to the next one.
func Run(stop context.Context, config *rest.Config, options Options) error {
	ctx, end := context.WithCancel(context.WithoutCancel(stop))
	defer end()
	a := &agent{options: options, log: ctrl.Log.WithName("handler"), ready: &serving.Readiness{}}
	setUp := context.AfterFunc(stop, end)
	probe, err := node.ReadProbe(options.ProbeDir)
	if err != nil {
		return err
	}
	a.probe = probe
	own := certs.New(options.Certs, a.log.WithName("certs"))
	if err := a.newManager(config, own); err != nil {
		return err
	}
	if a.config, err = follow.Cache(ctx, a.manager.GetCache()); err != nil {
		return err
	}
	if err = a.manager.AddMetricsServerExtraHandler("/healthz", serving.Health(a.config)); err != nil {
		return fmt.Errorf("serve /healthz: %w", err)
	}
	if err := a.addMigrations(ctx, config, own); err != nil {
		return err
	}
	steps := []func(context.Context) error{a.addLaunchers, a.addReconciler, a.addNode}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	server := &subresource.Server{
		Address: fmt.Sprintf(":%d", options.ConsolePort), TLS: own.Server(tls.RequireAndVerifyClientCert),
		Launchers: a.set, Patience: findPatience, Sessions: serving.NewTracker(), Listening: a.ready.Expect("virt-api's calls"),
		Log: a.log.WithName("subresource"),
	}
	if err := a.add(own, server, footprint.Trimmer{Log: a.log.WithName("footprint")}); err != nil {
		return err
	}
	if !setUp() {
		return nil // told to end before there was anything to end
	}
	defer context.AfterFunc(stop, func() {
		a.finish(ctx)
		end()
	})()
	return a.manager.Start(ctx)
}

// finish waits for the migrations that go through this process.
func (a *agent) finish(ctx context.Context) {
	a.log.Info("told to end")
	ctx, cancel := context.WithTimeout(ctx, lastMigrations)
	defer cancel()
	if left := a.migrations.Finish(ctx); left > 0 {
		a.log.Info("migrations are left behind", "count", left)
	}
}

type runnable interface{ Start(context.Context) error }

func (a *agent) add(list ...runnable) error {
	for _, r := range list {
		if err := a.manager.Add(r); err != nil {
			return fmt.Errorf("set up virt-handler: %w", err)
		}
	}
	return nil
}

func (a *agent) newManager(config *rest.Config, own *certs.Source) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, coordinationv1.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("know the API's types: %w", err)
		}
	}
	config.QPS = -1 // the API server's priority and fairness does that
	here := labels.SelectorFromSet(labels.Set{v1.NodeNameLabel: a.options.NodeName})
	machinePods, err := labels.Parse(v1.AppLabel + " in (virt-launcher," + layout.AttachmentLabel + ")")
	if err != nil {
		return fmt.Errorf("set up virt-handler: %w", err)
	}
	patience := lastWords
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Logger: a.log,
		Metrics: metricsserver.Options{
			BindAddress: fmt.Sprintf(":%d", a.options.Port), SecureServing: true,
			TLSOpts: []func(*tls.Config){func(c *tls.Config) {
				c.GetConfigForClient = own.Server(tls.NoClientCert).GetConfigForClient
				// Never used, but keeps the server from making a certificate of its own.
				c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, os.ErrNotExist }
			}},
			ExtraHandlers: map[string]http.Handler{"/readyz": a.ready},
		},
		HealthProbeBindAddress:  "0",
		GracefulShutdownTimeout: &patience,
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Pod{}: {
					Label: machinePods, Field: fields.OneTermEqualSelector("spec.nodeName", a.options.NodeName),
				},
				&v1.VirtualMachineInstance{}: {Label: here},
			},
		},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Node{}, &corev1.Event{}}}},
	})
	if err != nil {
		return fmt.Errorf("set up virt-handler: %w", err)
	}
	a.manager = manager
	return nil
}

// addMigrations takes guests from other nodes and can send them there.
func (a *agent) addMigrations(ctx context.Context, config *rest.Config, own *certs.Source) error {
	var err error
	// A selector cannot say "this label or that", so the objects on their way here need a cache of their own.
	a.arrivals, err = cache.New(config, cache.Options{
		HTTPClient: a.manager.GetHTTPClient(), Scheme: a.manager.GetScheme(), Mapper: a.manager.GetRESTMapper(),
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1.VirtualMachineInstance{}: {Label: labels.SelectorFromSet(labels.Set{v1.MigrationTargetNodeNameLabel: a.options.NodeName})},
		},
	})
	if err != nil {
		return fmt.Errorf("set up virt-handler: %w", err)
	}
	sending := certs.New(certs.Files{Dir: a.options.MigrationCerts, CA: a.options.Certs.CA}, a.log.WithName("certs"))
	address, err := migration.Address(a.options.PodIP)
	if err != nil {
		return err
	}
	a.migrations = &migration.Node{
		Context: context.WithoutCancel(ctx), Address: address, Port: a.options.MigrationPort,
		Receiver: &migration.Receiver{
			Address: fmt.Sprintf(":%d", a.options.MigrationPort), TLS: own.Server(tls.RequireAndVerifyClientCert),
			Listening: a.ready.Expect("migrations"), Log: a.log.WithName("migration"),
		},
		Client: sending.Client(migration.TargetCommonName), Changed: a.enqueue,
	}
	return a.add(a.arrivals, sending, a.migrations.Receiver)
}

// addLaunchers finds and follows the node's launchers.
func (a *agent) addLaunchers(ctx context.Context) error {
	connector := discovery.Connector{KubeletDir: a.options.KubeletDir}
	a.connect = connector.Connect
	// To the end of the process: streams are left with their launchers at the very last.
	a.set = launchers.NewSet(context.WithoutCancel(ctx), connector.Connect, a.log.WithName("launchers"), a.enqueue)
	finder, err := discovery.NewFinder(a.options.KubeletDir, a.log.WithName("discovery"), a.set.Found)
	if err != nil {
		return err
	}
	a.set.UseFinder(finder)
	return a.add(finder)
}

func (a *agent) enqueue(pod types.NamespacedName) {
	if q := a.queue.Load(); q != nil {
		(*q).Add(reconcile.Request{NamespacedName: pod})
	}
}

func (a *agent) addReconciler(ctx context.Context) error {
	r := &vmi.Reconciler{
		NodeName: a.options.NodeName, Cache: a.manager.GetClient(), Live: a.manager.GetAPIReader(), Writer: a.manager.GetClient(),
		Launchers: a.set, Connect: a.connect, Config: a.config, Node: a.probe, Now: time.Now, Arrivals: a.arrivals, Migrations: a.migrations,
		Background: context.WithoutCancel(ctx), Changed: a.enqueue,
	}
	toPods := func(_ context.Context, obj client.Object) []reconcile.Request {
		var requests []reconcile.Request
		for _, pod := range a.set.Pods(obj.GetUID()) {
			requests = append(requests, reconcile.Request{NamespacedName: pod})
		}
		return requests
	}
	// An attachment pod is of interest to the launcher pod that it holds a volume for.
	toLauncher := func(_ context.Context, obj client.Object) []reconcile.Request {
		owner := metav1.GetControllerOf(obj)
		if owner == nil || owner.Kind != "Pod" || obj.GetLabels()[v1.AppLabel] != layout.AttachmentLabel {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: owner.Name}}}
	}
	// Launchers tell us of changes through the queue itself.
	capture := source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		a.queue.Store(&q)
		return nil
	})
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)
	err := builder.ControllerManagedBy(a.manager).Named("launcher").
		For(&corev1.Pod{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(toLauncher)).
		Watches(&v1.VirtualMachineInstance{}, handler.EnqueueRequestsFromMapFunc(toPods)).
		WatchesRawSource(source.Kind(a.arrivals, client.Object(&v1.VirtualMachineInstance{}), handler.EnqueueRequestsFromMapFunc(toPods))).
		WatchesRawSource(capture).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: limiter}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up virt-handler: %w", err)
	}
	return nil
}

// addNode offers the node's devices and says what it can do.
func (a *agent) addNode(context.Context) error {
	agent := node.NewAgent(node.Options{
		Name: a.options.NodeName, Namespace: a.options.Namespace, Reader: a.manager.GetAPIReader(), Writer: a.manager.GetClient(),
		Labels: a.nodeLabels, Log: a.log.WithName("node"),
	})
	a.config.OnChange(func(clusterconfig.Config) { agent.Changed() })
	if err := ctrlmetrics.Registry.Register(&metrics.Collector{
		Node: a.options.NodeName, Launchers: a.set, Objects: a.manager.GetClient(),
	}); err != nil {
		return fmt.Errorf("offer metrics: %w", err)
	}
	plugins := &devices.Manager{
		Dir: filepath.Join(a.options.KubeletDir, "device-plugins"), Devices: a.devices(), Count: a.options.MaxDevices,
		Log: a.log.WithName("devices"), Registered: agent.Registered,
	}
	return a.add(agent, plugins, a.permitted())
}

// permitted offers the node's own devices that the administrator permits to be passed to guests.
func (a *agent) permitted() *devices.Permitted {
	again := make(chan struct{}, 1)
	a.config.OnChange(func(clusterconfig.Config) {
		select {
		case again <- struct{}{}:
		default: // it is on its way
		}
	})
	// The container's own /dev is as it was when it started; the node's is that of its process 1.
	nodes := []string{"/proc/1/root/dev/vfio"}
	if buses, err := filepath.Glob("/proc/1/root/dev/bus/usb/*"); err == nil {
		nodes = append(nodes, buses...)
	}
	return &devices.Permitted{
		Dir: filepath.Join(a.options.KubeletDir, "device-plugins"), Again: again, Nodes: nodes, Log: a.log.WithName("hostdevices"),
		Find: func() ([]devices.Offer, error) {
			return hostdevices.Finder{Sys: "/sys"}.Find(a.config.Get().PermittedHostDevices)
		},
	}
}

func (a *agent) nodeLabels() map[string]string {
	labels := node.Labels(a.probe, a.config.Get())
	if a.config.Get().Gate(clusterconfig.GateCPUManager) {
		maps.Copy(labels, node.CPUManager(a.options.KubeletDir))
	}
	return labels
}

// devices are those that the node has, and of KVM only what really works.
func (a *agent) devices() []devices.Device {
	var list []devices.Device
	for _, d := range devices.All() {
		if _, err := os.Stat(d.Path); err != nil {
			a.log.Info("the node has no such device", "device", d.Path)
			continue
		}
		if d == devices.KVM && (a.probe == nil || !a.probe.KVM) {
			reason := "the node was not probed"
			if a.probe != nil {
				reason = a.probe.Reason
			}
			a.log.Info("hardware virtualization is not offered", "reason", reason)
			continue
		}
		list = append(list, d)
	}
	return list
}
