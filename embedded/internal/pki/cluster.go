package pki

import (
	"fmt"
	"net"
	"net/netip"

	"virtctl/embedded/internal/plan"
)

// Names of the authorities and certificates, which are also the names of their files.
const (
	CA             = "ca"
	FrontProxyCA   = "front-proxy-ca"
	APIServer      = "apiserver"
	KubeletClient  = "apiserver-kubelet-client"
	FrontProxy     = "front-proxy-client"
	ServiceAccount = "service-account"
	Admin          = "admin"
	Manager        = "controller-manager"
	Scheduler      = "scheduler"
	Proxy          = "kube-proxy"
	DNS            = "coredns"
)

// Kubelet is the name of a node's certificate, which serves and calls.
func Kubelet(node string) string { return "kubelet-" + node }

// EnsureCluster makes or renews everything that a cluster with this address plan needs.
func EnsureCluster(s Store, c plan.Cluster) error {
	for _, ca := range []string{CA, FrontProxyCA} {
		if err := s.EnsureCA(ca); err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
	}
	if err := s.EnsureKey(ServiceAccount); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	for _, r := range requests(c) {
		if err := s.Ensure(r); err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
	}
	return nil
}

func requests(c plan.Cluster) []Request {
	loopback := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	apiIPs := append([]net.IP{}, loopback...)
	for _, a := range c.APIService {
		apiIPs = append(apiIPs, ip(a))
	}
	for _, g := range c.Gateway {
		apiIPs = append(apiIPs, ip(g.Addr()))
	}
	out := []Request{
		{
			Name: APIServer, CA: CA, CommonName: "kube-apiserver", IPs: apiIPs,
			Names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		},
		{Name: KubeletClient, CA: CA, CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
		{Name: FrontProxy, CA: FrontProxyCA, CommonName: "front-proxy-client"},
		{Name: Admin, CA: CA, CommonName: "virt-kube-admin", Organization: []string{"system:masters"}},
		{Name: Manager, CA: CA, CommonName: "system:kube-controller-manager"},
		{Name: Scheduler, CA: CA, CommonName: "system:kube-scheduler"},
		{Name: Proxy, CA: CA, CommonName: "system:kube-proxy"},
		{Name: DNS, CA: CA, CommonName: "system:coredns"},
	}
	for _, n := range c.Nodes {
		r := Request{
			Name: Kubelet(n.Name), CA: CA, CommonName: "system:node:" + n.Name, Organization: []string{"system:nodes"},
			Names: []string{n.Name}, Client: true,
		}
		for _, p := range n.IPs {
			r.IPs = append(r.IPs, ip(p.Addr()))
		}
		out = append(out, r)
	}
	return out
}

func ip(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }
