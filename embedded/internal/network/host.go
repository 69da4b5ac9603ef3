// Package network connects the nodes: a bridge on the host, a veth pair per node, static routes to every node's pods, and address
// translation towards the world.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
)

// Host is the host's side of an instance's network.
type Host struct {
	Options options.Options
	Plan    plan.Cluster
}

// Setup makes bridge, routes, translation and settings; what is there already stays.
func (h Host) Setup() error {
	want, err := hostSysctls()
	if err != nil {
		return err
	}
	if err := setSysctls(SharedFile, want); err != nil {
		return err
	}
	bridge, err := h.ensureBridge()
	if err != nil {
		return err
	}
	for _, n := range h.Plan.Nodes {
		for i, pods := range n.PodCIDRs {
			route := &netlink.Route{LinkIndex: bridge.Attrs().Index, Dst: ipNet(pods), Gw: ip(n.IPs[i].Addr())}
			if err := netlink.RouteReplace(route); err != nil {
				return fmt.Errorf("route to the pods of %s (%s): %w", n.Name, pods, err)
			}
		}
	}
	return nft(renderNft(h.Options, h.Plan))
}

func (h Host) ensureBridge() (netlink.Link, error) {
	name := h.Options.Bridge
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", name, err)
		}
		link, err = netlink.LinkByName(name)
	}
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", name, err)
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("%s is a link of type %s: choose another name with --bridge", name, link.Type())
	}
	for _, p := range h.Plan.Gateway {
		if err := addAddress(link, p); err != nil {
			return nil, err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set %s up: %w", name, err)
	}
	return link, nil
}

// addAddress gives a link an address that is usable at once, without duplicate address detection.
func addAddress(link netlink.Link, p netip.Prefix) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip(p.Addr()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, p, err)
	}
	return nil
}

// AttachNode gives the network namespace of a process its eth0 on the bridge.
func (h Host) AttachNode(node string, pid int) error {
	bridge, err := netlink.LinkByName(h.Options.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if err := h.DetachNode(node); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = h.Options.HostLink(node)
	attrs.MasterIndex = bridge.Attrs().Index
	attrs.Flags = net.FlagUp
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: NodeLink, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("connect %s: %w", node, err)
	}
	return nil
}

// DetachNode removes the node's link, if it is there.
func (h Host) DetachNode(node string) error { return removeLink(h.Options.HostLink(node)) }

// Cut takes a node off the network, and Heal brings it back.
func (h Host) Cut(node string) error { return h.setLink(node, netlink.LinkSetDown) }

// Heal undoes Cut.
func (h Host) Heal(node string) error { return h.setLink(node, netlink.LinkSetUp) }

func (h Host) setLink(node string, set func(netlink.Link) error) error {
	link, err := netlink.LinkByName(h.Options.HostLink(node))
	if err != nil {
		return fmt.Errorf("find the link of %s: %w; is the node running ('virt-kube status')?", node, err)
	}
	return set(link)
}

// Teardown removes everything that Setup and AttachNode made, but for the settings, which Release restores.
func (h Host) Teardown() error {
	var errs []error
	links, err := netlink.LinkList()
	errs = append(errs, err)
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, h.Options.Bridge+"-") && l.Type() == "veth" {
			errs = append(errs, removeLink(l.Attrs().Name))
		}
	}
	errs = append(errs, removeLink(h.Options.Bridge))
	// Declaring the table first makes deleting it valid when it is not there.
	errs = append(errs, nft(fmt.Sprintf("table inet %[1]s\ndelete table inet %[1]s\n", h.Options.NftTable())))
	return errors.Join(errs...)
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	// A node's end may vanish with its namespace between the two calls.
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

func nft(rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func ip(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: ip(p.Addr()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
