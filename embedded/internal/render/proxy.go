package render

import (
	"fmt"
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	componentbase "k8s.io/component-base/config/v1alpha1"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"virtctl/embedded/internal/plan"
)

// KubeProxy is kube-proxy's configuration on one node. masqueradeAll is for kernels without br_netfilter, where answers between
// pods of one bridge would pass the service rules by.
func KubeProxy(c plan.Cluster, n plan.Node, kubeconfig string, masqueradeAll bool) ([]byte, error) {
	config := kubeproxy.KubeProxyConfiguration{
		TypeMeta:           metav1.TypeMeta{APIVersion: kubeproxy.SchemeGroupVersion.String(), Kind: "KubeProxyConfiguration"},
		ClientConnection:   componentbase.ClientConnectionConfiguration{Kubeconfig: kubeconfig},
		HostnameOverride:   n.Name,
		BindAddress:        "0.0.0.0",
		HealthzBindAddress: "0.0.0.0:10256",
		MetricsBindAddress: "127.0.0.1:10249",
		Mode:               "nftables",
		NFTables:           kubeproxy.KubeProxyNFTablesConfiguration{MasqueradeAll: masqueradeAll},
		DetectLocalMode:    "BridgeInterface",
		DetectLocal:        kubeproxy.DetectLocalConfiguration{BridgeInterface: PodBridge},
		ClusterCIDR:        join(c.PodCIDRs),
		OOMScoreAdj:        new(int32(0)),
		// These belong to the machine: a network namespace cannot set them.
		Conntrack: kubeproxy.KubeProxyConntrackConfiguration{
			MaxPerCore: new(int32(0)), Min: new(int32(0)),
			TCPEstablishedTimeout: &metav1.Duration{}, TCPCloseWaitTimeout: &metav1.Duration{},
		},
	}
	out, err := yaml.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("render kube-proxy configuration: %w", err)
	}
	return out, nil
}

func join(prefixes []netip.Prefix) string {
	parts := make([]string, len(prefixes))
	for i, p := range prefixes {
		parts[i] = p.String()
	}
	return strings.Join(parts, ",")
}
