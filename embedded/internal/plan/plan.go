// Package plan computes every address of an instance from its settings: nothing is allocated, so nothing can be lost.
package plan

import (
	"fmt"
	"net/netip"

	"virtctl/embedded/internal/options"
)

// Node is the address plan of one node.
type Node struct {
	Name string
	// IPs are the node's addresses on the bridge, IPv4 first.
	IPs []netip.Prefix
	// PodCIDRs are the node's share of the pod networks, IPv4 first.
	PodCIDRs []netip.Prefix
}

// IP is the node's IPv4 address.
func (n Node) IP() netip.Addr { return n.IPs[0].Addr() }

// Cluster is the address plan of an instance.
type Cluster struct {
	// Gateway is the host on the bridge, IPv4 first.
	Gateway []netip.Prefix
	// APIService and DNSService are the cluster IPs of kubernetes.default and kube-dns, IPv4 first.
	APIService []netip.Addr
	DNSService []netip.Addr
	// PodCIDRs and ServiceCIDRs are the whole ranges, IPv4 first.
	PodCIDRs     []netip.Prefix
	ServiceCIDRs []netip.Prefix
	Nodes        []Node
}

// GatewayIP is the host's IPv4 address on the bridge.
func (c Cluster) GatewayIP() netip.Addr { return c.Gateway[0].Addr() }

// Node finds a node by name.
func (c Cluster) Node(name string) (Node, error) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("no node %q: there are %s to %s", name, c.Nodes[0].Name, c.Nodes[len(c.Nodes)-1].Name)
}

// NodeAddresses are the last numbers of the nodes' addresses on the bridge: node01 is .11.
const nodeBase = 10

// New computes the plan of validated settings.
func New(o options.Options) (Cluster, error) {
	pods, err := prefixes(o.PodCIDR, o.PodCIDR6)
	if err != nil {
		return Cluster{}, err
	}
	services, err := prefixes(o.ServiceCIDR, o.ServiceCIDR6)
	if err != nil {
		return Cluster{}, err
	}
	bridge, err := prefixes(o.NodeCIDR, o.NodeCIDR6)
	if err != nil {
		return Cluster{}, err
	}
	c := Cluster{PodCIDRs: pods, ServiceCIDRs: services}
	for _, p := range bridge {
		c.Gateway = append(c.Gateway, netip.PrefixFrom(nth(p.Addr(), 1, 0), p.Bits()))
	}
	for _, p := range services {
		c.APIService = append(c.APIService, nth(p.Addr(), 1, 0))
		c.DNSService = append(c.DNSService, nth(p.Addr(), 10, 0))
	}
	for i := 1; i <= o.Nodes; i++ {
		n := Node{Name: options.NodeName(i)}
		for _, p := range bridge {
			n.IPs = append(n.IPs, netip.PrefixFrom(nth(p.Addr(), nodeBase+i, 0), p.Bits()))
		}
		for _, p := range pods {
			n.PodCIDRs = append(n.PodCIDRs, subnet(p, i))
		}
		c.Nodes = append(c.Nodes, n)
	}
	return c, nil
}

func prefixes(values ...string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, v := range values {
		if v == "" {
			continue
		}
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return nil, fmt.Errorf("network %q: %w", v, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// subnet is the i-th /24 (IPv4) or /64 (IPv6) of p.
func subnet(p netip.Prefix, i int) netip.Prefix {
	if p.Addr().Is4() {
		return netip.PrefixFrom(nth(p.Addr(), i, 8), 24)
	}
	return netip.PrefixFrom(nth(p.Addr(), i, 64), 64)
}

// nth adds n << shift to an address; shift is a multiple of 8.
func nth(a netip.Addr, n, shift int) netip.Addr {
	b := a.AsSlice()
	carry := n
	for i := len(b) - 1 - shift/8; i >= 0 && carry > 0; i-- {
		carry += int(b[i])
		b[i] = byte(carry)
		carry >>= 8
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}
