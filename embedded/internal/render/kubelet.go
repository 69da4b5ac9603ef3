// Package render writes the configuration of every component from the settings and the address plan: pure functions, golden-tested.
package render

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/pki"
	"virtctl/embedded/internal/plan"
)

// Paths inside a node.
const (
	ContainerdRoot   = "/var/lib/containerd"
	ContainerdState  = "/run/containerd"
	ContainerdSocket = "/run/containerd/containerd.sock"
	KubeletRoot      = "/var/lib/kubelet"
	CNIConfDir       = "/etc/cni/net.d"
	PodBridge        = "cni0"
	ResolvConf       = "/etc/resolv.conf"
)

// ClusterDomain is the domain of services.
const ClusterDomain = "cluster.local"

// Kubelet is the kubelet's configuration on one node.
func Kubelet(o options.Options, c plan.Cluster, n plan.Node) ([]byte, error) {
	store := pki.Store{Dir: o.PKIDir()}
	config := kubelet.KubeletConfiguration{
		TypeMeta:          metav1.TypeMeta{APIVersion: kubelet.SchemeGroupVersion.String(), Kind: "KubeletConfiguration"},
		EnableServer:      new(true),
		TLSCertFile:       store.Cert(pki.Kubelet(n.Name)),
		TLSPrivateKeyFile: store.Key(pki.Kubelet(n.Name)),
		Authentication: kubelet.KubeletAuthentication{
			X509:      kubelet.KubeletX509Authentication{ClientCAFile: store.Cert(pki.CA)},
			Webhook:   kubelet.KubeletWebhookAuthentication{Enabled: new(true)},
			Anonymous: kubelet.KubeletAnonymousAuthentication{Enabled: new(false)},
		},
		Authorization:            kubelet.KubeletAuthorization{Mode: kubelet.KubeletAuthorizationModeWebhook},
		ContainerRuntimeEndpoint: "unix://" + ContainerdSocket,
		CgroupDriver:             "cgroupfs",
		CgroupRoot:               o.NodeCgroup(n.Name),
		// Machines with cgroup v1 are old, not broken.
		FailCgroupV1:        new(false),
		FailSwapOn:          new(false),
		ClusterDomain:       ClusterDomain,
		ResolverConfig:      new(ResolvConf),
		MaxPods:             int32(o.MaxPods),
		SerializeImagePulls: new(false),
		// 100 turns image garbage collection off: imported images cannot be pulled again.
		ImageGCHighThresholdPercent: new(int32(100)),
		ImageGCLowThresholdPercent:  new(int32(99)),
		EvictionHard: map[string]string{
			"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%",
			"imagefs.available": "1%", "imagefs.inodesFree": "1%",
		},
		VolumePluginDir:           KubeletRoot + "/volume-plugins",
		MakeIPTablesUtilChains:    new(false),
		OOMScoreAdj:               new(int32(0)),
		EnableProfilingHandler:    new(false),
		EnableDebugFlagsHandler:   new(false),
		HealthzPort:               new(int32(10248)),
		NodeStatusReportFrequency: metav1.Duration{Duration: 5 * time.Minute},
	}
	for _, a := range c.DNSService {
		config.ClusterDNS = append(config.ClusterDNS, a.String())
	}
	out, err := yaml.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("render kubelet configuration: %w", err)
	}
	return out, nil
}
