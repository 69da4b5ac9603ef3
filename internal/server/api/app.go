package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	v1 "kubevirt.io/api/core/v1"
	instancetypev1beta1 "kubevirt.io/api/instancetype/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/aggregation"
	"virtctl/internal/clusterconfig"
	"virtctl/internal/clusterconfig/follow"
	"virtctl/internal/server/api/admission/review"
	"virtctl/internal/server/api/expand"
	"virtctl/internal/server/api/nodeclient"
	"virtctl/internal/server/api/subresource"
	"virtctl/internal/server/serving"
	"virtctl/internal/tlsfile"
)

// app is the running program.
type app struct {
	options    Options
	log        *slog.Logger
	cache      cache.Cache
	aggregator *aggregation.Aggregator
	serving    *tlsfile.KeyPair
	config     *clusterconfig.Source
	streams    *serving.Tracker
	metrics    *metrics
	handler    http.Handler
	health     *health
	listen     func(context.Context) (net.Listener, error)
}

// healthTimeout bounds the question whether the Kubernetes API server answers.
const healthTimeout = 5 * time.Second

func newApp(cluster *rest.Config, o Options, log *slog.Logger) (*app, error) {
	direct, cached, err := clients(cluster, o.Namespace)
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(cluster)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	aggregator, err := aggregation.NewAggregator(kube)
	if err != nil {
		return nil, err
	}
	config, err := follow.Cache(context.Background(), cached)
	if err != nil {
		return nil, err
	}
	if _, err := cached.GetInformer(context.Background(), &corev1.Pod{}, cache.BlockUntilSynced(false)); err != nil {
		return nil, fmt.Errorf("watch the node agents' pods: %w", err)
	}
	h := &health{}
	a := &app{
		options: o, health: h, log: log, cache: cached, aggregator: aggregator, config: config, streams: serving.NewTracker(),
		serving: tlsfile.Mounted(o.ServingDir), metrics: newMetrics(h.ready), listen: listenOn(o.Port),
	}
	h.checks = []func() error{aggregator.Ready, a.servable}
	agents := nodeclient.Pods{Reader: cached, Informers: cached, Namespace: o.Namespace}
	subresources := &subresource.Server{
		Client: direct, KubeVirts: cached, Config: config, Expander: expand.Types{Reader: direct, Config: config}, Streams: a.streams, Sessions: a.metrics, Log: log,
		Node:    nodeclient.New(nodeclient.TLS(tlsfile.Mounted(o.ClientDir), &tlsfile.Bundle{File: o.Authorities}), agents),
		Healthy: serverVersion(kube),
	}
	reviews := &review.Server{Client: direct, Config: config, Namespace: o.Namespace, Expander: expand.Types{Reader: direct, Config: config}}
	guard := aggregation.Guard{Authn: aggregator, Authz: aggregation.NewReviewer(direct), Log: log}
	a.handler = newHandler(handlers{
		guard: guard, subresources: subresources.Handlers(), reviews: reviews.Handlers(),
		health: a.health, config: config, metrics: a.metrics.handler(), log: log,
	})
	return a, nil
}

func (a *app) servable() error {
	_, err := a.serving.Get()
	return err
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; run in a pod, or name a kubeconfig with --kubeconfig", err)
	}
	// The API server's priority and fairness throttles us if it must.
	config.QPS = -1
	config.UserAgent = "virt-api"
	return config, nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, authorizationv1.AddToScheme, v1.AddToScheme, instancetypev1beta1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	return scheme, nil
}

// mapper knows the few kinds that are used here, and so needs no discovery.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, k := range []struct {
		gv       schema.GroupVersion
		kind     string
		resource string
		scope    meta.RESTScope
	}{
		{corev1.SchemeGroupVersion, "Pod", "pod", meta.RESTScopeNamespace},
		// A cache limited to one namespace asks for the scope of the list's kind.
		{corev1.SchemeGroupVersion, "PodList", "pod", meta.RESTScopeNamespace},
		{corev1.SchemeGroupVersion, "Node", "node", meta.RESTScopeRoot},
		// Instance types and preferences are inferred from their labels.
		{corev1.SchemeGroupVersion, "PersistentVolumeClaim", "persistentvolumeclaim", meta.RESTScopeNamespace},
		{schema.GroupVersion{Group: "cdi.kubevirt.io", Version: "v1beta1"}, "DataVolume", "datavolume", meta.RESTScopeNamespace},
		{schema.GroupVersion{Group: "cdi.kubevirt.io", Version: "v1beta1"}, "DataSource", "datasource", meta.RESTScopeNamespace},
		{authorizationv1.SchemeGroupVersion, "SubjectAccessReview", "subjectaccessreview", meta.RESTScopeRoot},
		{appsv1.SchemeGroupVersion, "ControllerRevision", "controllerrevision", meta.RESTScopeNamespace},
		{instancetypev1beta1.SchemeGroupVersion, "VirtualMachineInstancetype", "virtualmachineinstancetype", meta.RESTScopeNamespace},
		{instancetypev1beta1.SchemeGroupVersion, "VirtualMachineClusterInstancetype", "virtualmachineclusterinstancetype", meta.RESTScopeRoot},
		{instancetypev1beta1.SchemeGroupVersion, "VirtualMachinePreference", "virtualmachinepreference", meta.RESTScopeNamespace},
		{instancetypev1beta1.SchemeGroupVersion, "VirtualMachineClusterPreference", "virtualmachineclusterpreference", meta.RESTScopeRoot},
		{v1.GroupVersion, "KubeVirt", "kubevirt", meta.RESTScopeNamespace},
		{v1.GroupVersion, "VirtualMachine", "virtualmachine", meta.RESTScopeNamespace},
		{v1.GroupVersion, "VirtualMachineInstance", "virtualmachineinstance", meta.RESTScopeNamespace},
		{v1.GroupVersion, "VirtualMachineInstancePreset", "virtualmachineinstancepreset", meta.RESTScopeNamespace},
		{v1.GroupVersion, "VirtualMachineInstanceMigration", "virtualmachineinstancemigration", meta.RESTScopeNamespace},
	} {
		m.AddSpecific(k.gv.WithKind(k.kind), k.gv.WithResource(k.resource+"s"), k.gv.WithResource(k.resource), k.scope)
	}
	return m
}

// clients gives a client that asks the API server and a cache of what is asked often and changes seldom.
func clients(config *rest.Config, namespace string) (client.Client, cache.Cache, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, nil, err
	}
	web, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client: %w", err)
	}
	direct, err := client.New(config, client.Options{HTTPClient: web, Scheme: scheme, Mapper: mapper()})
	if err != nil {
		return nil, nil, fmt.Errorf("make a client: %w", err)
	}
	agents := labels.SelectorFromSet(labels.Set{nodeclient.AgentLabel: nodeclient.AgentLabelValue})
	cached, err := cache.New(config, cache.Options{
		HTTPClient: web, Scheme: scheme, Mapper: mapper(), DefaultTransform: cache.TransformStripManagedFields(),
		ReaderFailOnMissingInformer: true,
		ByObject: map[client.Object]cache.ByObject{
			&v1.KubeVirt{}: {},
			&corev1.Pod{}:  {Namespaces: map[string]cache.Config{namespace: {LabelSelector: agents}}, Transform: slimPod},
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make a cache: %w", err)
	}
	return direct, cached, nil
}

// slimPod keeps of a node agent's pod what finding the agent takes.
func slimPod(o any) (any, error) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	slim := &corev1.Pod{}
	slim.Name, slim.Namespace, slim.UID, slim.ResourceVersion = pod.Name, pod.Namespace, pod.UID, pod.ResourceVersion
	slim.Labels, slim.CreationTimestamp, slim.DeletionTimestamp = pod.Labels, pod.CreationTimestamp, pod.DeletionTimestamp
	slim.Spec.NodeName = pod.Spec.NodeName
	slim.Status.Phase, slim.Status.PodIP, slim.Status.Conditions = pod.Status.Phase, pod.Status.PodIP, pod.Status.Conditions
	return slim, nil
}

func serverVersion(kube kubernetes.Interface) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, healthTimeout)
		defer cancel()
		raw, err := kube.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(ctx)
		if err != nil {
			return "", fmt.Errorf("ask the Kubernetes API server for its version: %w", err)
		}
		info := struct {
			GitVersion string `json:"gitVersion"`
		}{}
		if err := json.Unmarshal(raw, &info); err != nil {
			return "", fmt.Errorf("read the Kubernetes API server's version: %w", err)
		}
		return info.GitVersion, nil
	}
}

// tlsConfig serves with the certificate as it is in the files now, and as strictly as the KubeVirt object says now. Client
// certificates are asked for, not demanded: webhooks and probes come without; who needs an identity is checked per request.
func (a *app) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := &tls.Config{
				MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, NextProtos: []string{"http/1.1"},
				GetCertificate: a.serving.Server,
			}
			restrict(c, a.config.Get().TLS)
			return c, nil
		},
	}
}

// restrict applies the KubeVirt object's TLS settings. TLS below 1.2 stays off, whatever it says.
func restrict(c *tls.Config, set *v1.TLSConfiguration) {
	if set == nil {
		return
	}
	if set.MinTLSVersion == v1.VersionTLS13 {
		c.MinVersion = tls.VersionTLS13
	}
	for _, name := range set.Ciphers {
		for _, suite := range tls.CipherSuites() {
			if suite.Name == name {
				c.CipherSuites = append(c.CipherSuites, suite.ID)
			}
		}
	}
}
