package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// Result is what a launcher needs to join its guest to the network.
type Result struct {
	DHCP []wire.DHCPInterface
	// Sockets are open; Close closes them.
	Sockets []Socket
}

// Socket is one the launcher may not open itself.
type Socket struct {
	Role wire.SocketRole
	File *os.File
}

// Close closes the sockets.
func (r *Result) Close() {
	for _, s := range r.Sockets {
		_ = s.File.Close()
	}
	r.Sockets = nil
}

// Apply makes the plan real in ns. It may be called again.
func Apply(ns *Namespace, plan Plan) (*Result, error) {
	result := &Result{}
	err := ns.do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		if err := applyAll(h, plan); err != nil {
			return err
		}
		if err := applyRules(plan); err != nil {
			return err
		}
		return result.openAll(plan)
	})
	if err != nil {
		result.Close()
		return nil, fmt.Errorf("set up the pod's network: %w", err)
	}
	return result, nil
}

func applyAll(h *netlink.Handle, plan Plan) error {
	for i := range plan.Interfaces {
		p := &plan.Interfaces[i]
		var err error
		switch p.Binding {
		case Masquerade:
			err = applyMasquerade(h, p)
		case Bridge:
			err = applyBridge(h, p)
		case Passt:
			err = applyPasst()
		}
		if err != nil {
			return fmt.Errorf("interface %s: %w", p.Name, err)
		}
	}
	return nil
}

func applyMasquerade(h *netlink.Handle, p *Interface) error {
	bridge, err := ensureBridge(h, p.Bridge, bridgeMAC, p.MTU)
	if err != nil {
		return err
	}
	// The guest must not be able to give the pod addresses or routes, and the router that it solicits must be able to answer at
	// once, without first asking the guest whether its address is free.
	for _, name := range []string{"accept_ra", "accept_dad"} {
		if err := setSysctl("net/ipv6/conf/"+p.Bridge+"/"+name, "0", true); err != nil {
			return err
		}
	}
	if m := p.Masquerade; m.V4 != nil {
		if err := addAddr(h, bridge, m.V4.Gateway); err != nil {
			return err
		}
		// Connections to the pod's loopback (kubectl port-forward) lead to the guest, so packets from 127.0.0.1 must be allowed out
		// on the bridge. The rules drop those that come in there.
		if err := setSysctl("net/ipv4/conf/"+p.Bridge+"/route_localnet", "1", false); err != nil {
			return err
		}
		if err := setSysctl("net/ipv4/ip_forward", "1", false); err != nil {
			return err
		}
	}
	if m := p.Masquerade; m.V6 != nil {
		if err := addAddr(h, bridge, m.V6.Gateway); err != nil {
			return err
		}
		if err := setSysctl("net/ipv6/conf/all/forwarding", "1", false); err != nil {
			return err
		}
	}
	return ensureTap(h, p, bridge)
}

func applyPasst() error {
	if err := setSysctl("net/ipv4/ping_group_range", fmt.Sprintf("%d %d", layout.UID, layout.UID), false); err != nil {
		return err
	}
	return setSysctl("net/ipv4/ip_unprivileged_port_start", "0", false)
}

// applyBridge hands the pod link over. The keeper has everything before the link loses anything, so that it can be cut off and
// started again at any point.
func applyBridge(h *netlink.Handle, p *Interface) error {
	move := p.Move
	link, ok, err := linkByName(h, p.PodLink)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("the pod has no link %s", p.PodLink)
	}
	if err := keep(h, move); err != nil {
		return err
	}
	bridge, err := ensureBridge(h, p.Bridge, "", p.MTU)
	if err != nil {
		return err
	}
	if err := setSysctl("net/ipv4/conf/"+p.Bridge+"/arp_ignore", "1", false); err != nil {
		return err
	}
	for _, name := range []string{p.Bridge, p.PodLink} {
		if err := setSysctl("net/ipv6/conf/"+name+"/disable_ipv6", "1", true); err != nil {
			return err
		}
	}
	if err := addAddr(h, bridge, move.Server); err != nil {
		return err
	}
	if err := toPort(h, link, bridge, move.PortMAC); err != nil {
		return err
	}
	return ensureTap(h, p, bridge)
}

// keep makes the link that remembers what the pod link was.
func keep(h *netlink.Handle, move *MovePlan) error {
	keeper, err := ensureBridge(h, move.Keeper, move.Link.MAC, move.Link.MTU)
	if err != nil {
		return err
	}
	for _, a := range move.Link.Addrs {
		if err := addAddr(h, keeper, a); err != nil {
			return err
		}
	}
	for _, r := range move.Link.Routes {
		route := &netlink.Route{
			LinkIndex: keeper.Attrs().Index, Table: keepTable, Dst: ipNet(r.Dst), Scope: netlink.SCOPE_LINK,
		}
		if r.Gateway.IsValid() {
			route.Gw, route.Scope, route.Flags = r.Gateway.AsSlice(), netlink.SCOPE_UNIVERSE, int(netlink.FLAG_ONLINK)
		}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("remember the route to %s: %w", r.Dst, err)
		}
	}
	return nil
}

func toPort(h *netlink.Handle, link, bridge netlink.Link, portMAC string) error {
	name := link.Attrs().Name
	addrs, err := h.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	for i := range addrs {
		if err := h.AddrDel(link, &addrs[i]); err != nil {
			return fmt.Errorf("take %s from %s: %w", addrs[i].IPNet, name, err)
		}
	}
	mac, err := net.ParseMAC(portMAC)
	if err != nil {
		return fmt.Errorf("hardware address of %s: %w", name, err)
	}
	if link.Attrs().HardwareAddr.String() != mac.String() {
		if err := h.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("set the hardware address of %s: %w", name, err)
		}
	}
	if err := h.LinkSetMaster(link, bridge); err != nil {
		return fmt.Errorf("attach %s to the bridge: %w", name, err)
	}
	if err := h.LinkSetLearning(link, false); err != nil {
		return fmt.Errorf("turn off learning on %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}

func ensureBridge(h *netlink.Handle, name, mac string, mtu int) (netlink.Link, error) {
	bridge, ok, err := linkByName(h, name)
	if err != nil {
		return nil, err
	}
	if !ok {
		if bridge, err = addBridge(h, name, mac, mtu); err != nil {
			return nil, err
		}
	}
	if err := h.LinkSetUp(bridge); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", name, err)
	}
	return bridge, nil
}

func addBridge(h *netlink.Handle, name, mac string, mtu int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	if mac != "" {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return nil, fmt.Errorf("hardware address of %s: %w", name, err)
		}
		attrs.HardwareAddr = hw
	}
	snooping := false // it would swallow DHCPv6 and neighbour discovery where no router asks for memberships
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return nil, fmt.Errorf("add bridge %s: %w", name, err)
	}
	bridge, ok, err := linkByName(h, name)
	if err == nil && !ok {
		err = fmt.Errorf("bridge %s vanished", name)
	}
	if err != nil {
		return nil, err
	}
	// Guests' DHCP clients read packets before anyone has filled in a checksum that was left to the hardware.
	return bridge, disableTxChecksum(name)
}

func ensureTap(h *netlink.Handle, p *Interface, bridge netlink.Link) error {
	tap, ok, err := linkByName(h, p.Tap)
	if err != nil {
		return err
	}
	if !ok {
		if tap, err = addTap(h, p); err != nil {
			return err
		}
	}
	if err := h.LinkSetMaster(tap, bridge); err != nil {
		return fmt.Errorf("attach %s to the bridge: %w", p.Tap, err)
	}
	if err := h.LinkSetUp(tap); err != nil {
		return fmt.Errorf("bring up %s: %w", p.Tap, err)
	}
	return nil
}

func addTap(h *netlink.Handle, p *Interface) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = p.Tap
	tap := &netlink.Tuntap{
		LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Owner: layout.UID, Group: layout.UID,
		// One queue is opened here whatever the number: QEMU adds its own when it attaches.
		Queues: 1, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if p.Queues > 1 {
		tap.Flags |= netlink.TUNTAP_MULTI_QUEUE
	}
	err := h.LinkAdd(tap)
	for _, f := range tap.Fds {
		_ = f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("add tap %s: %w; check that the node has /dev/net/tun (modprobe tun)", p.Tap, err)
	}
	link, ok, err := linkByName(h, p.Tap)
	if err == nil && !ok {
		err = fmt.Errorf("tap %s vanished", p.Tap)
	}
	if err != nil {
		return nil, err
	}
	if err := h.LinkSetMTU(link, p.MTU); err != nil {
		return nil, fmt.Errorf("set the MTU of %s: %w", p.Tap, err)
	}
	return link, setSysctl("net/ipv6/conf/"+p.Tap+"/disable_ipv6", "1", true)
}

func addAddr(h *netlink.Handle, link netlink.Link, prefix netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give %s to %s: %w", prefix, link.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
