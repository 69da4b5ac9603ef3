package network

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"virtctl/embedded/internal/plan"
)

// NodeLink is a node's link to the bridge, as the node sees it.
const NodeLink = "eth0"

// ConfigureNode sets up the network namespace of this process for a node: addresses, routes to the host and to the pods of
// every other node, forwarding.
func ConfigureNode(c plan.Cluster, n plan.Node) error {
	if _, err := nodeSysctls().Apply(); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	eth, err := netlink.LinkByName(NodeLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", NodeLink, err)
	}
	for _, p := range n.IPs {
		if err := addAddress(eth, p); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set %s up: %w", NodeLink, err)
	}
	for i, gateway := range c.Gateway {
		if err := route(eth, nil, ip(gateway.Addr())); err != nil {
			return err
		}
		for _, other := range c.Nodes {
			if other.Name == n.Name {
				continue
			}
			if err := route(eth, ipNet(other.PodCIDRs[i]), ip(other.IPs[i].Addr())); err != nil {
				return err
			}
		}
	}
	return nil
}

// nodeSysctls: a node routes for its pods, and packets between pods on its bridge must pass its service rules.
func nodeSysctls() Sysctls {
	return Sysctls{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv6/conf/all/forwarding":        "1",
		"net/ipv6/conf/default/accept_dad":    "0",
		"net/bridge/bridge-nf-call-iptables":  "1",
		"net/bridge/bridge-nf-call-ip6tables": "1",
	}
}

// route replaces a route; without a destination it is the default route of the gateway's family.
func route(link netlink.Link, dst *net.IPNet, gateway net.IP) error {
	if dst == nil {
		bits := 8 * len(gateway)
		dst = &net.IPNet{IP: make(net.IP, len(gateway)), Mask: net.CIDRMask(0, bits)}
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: gateway}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("route to %s through %s: %w", dst, gateway, err)
	}
	return nil
}
