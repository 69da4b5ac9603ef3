package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

// Binding is how a guest interface is joined to a pod link.
type Binding string

const (
	Masquerade Binding = "masquerade"
	Bridge     Binding = "bridge"
	// Passt needs nothing but two settings of the namespace: QEMU's helper does the rest without privileges.
	Passt Binding = "passt"
	// SRIOV has nothing to do here: the device belongs to the guest.
	SRIOV Binding = "sriov"
)

// Plan says what to make of a pod's network.
type Plan struct {
	Interfaces []Interface `json:"interfaces"`
}

// Interface is the plan for one guest interface.
type Interface struct {
	Name    string  `json:"name"`
	Binding Binding `json:"binding"`
	// PodLink is the pod's link, LinkDown what the guest shall see of it.
	PodLink  string `json:"podLink"`
	LinkDown bool   `json:"linkDown,omitempty"`
	Bridge   string `json:"bridge,omitempty"`
	Tap      string `json:"tap,omitempty"`
	Queues   int    `json:"queues,omitempty"`
	// MAC is the guest's.
	MAC string `json:"mac,omitempty"`
	MTU int    `json:"mtu,omitempty"`
	// Addrs is where others reach the guest.
	Addrs      []netip.Addr        `json:"addrs,omitempty"`
	Masquerade *MasqueradePlan     `json:"masquerade,omitempty"`
	Move       *MovePlan           `json:"move,omitempty"`
	DHCP       *wire.DHCPInterface `json:"dhcp,omitempty"`
}

// MasqueradePlan is a private network between the pod and its guest.
type MasqueradePlan struct {
	V4 *Pair `json:"v4,omitempty"`
	V6 *Pair `json:"v6,omitempty"`
	// Ports are those that lead to the guest; none means all.
	Ports []PortRange `json:"ports,omitempty"`
}

// Pair is one family of the private network.
type Pair struct {
	Gateway netip.Prefix `json:"gateway"`
	Guest   netip.Prefix `json:"guest"`
}

// PortRange is First to Last of Protocol (tcp or udp).
type PortRange struct {
	Protocol string `json:"protocol"`
	First    uint16 `json:"first"`
	Last     uint16 `json:"last"`
}

// MovePlan hands the pod link's identity to the guest.
type MovePlan struct {
	// Keeper is the link that remembers Link.
	Keeper string `json:"keeper"`
	Link   Link   `json:"link"`
	// PortMAC is what the pod link has from now on, Server the bridge's own address, from which DHCP is answered.
	PortMAC string       `json:"portMAC"`
	Server  netip.Prefix `json:"server"`
}

// InterfaceError says which interface cannot be joined, why, and what to do.
type InterfaceError struct {
	Interface string
	Detail    string
}

func (e *InterfaceError) Error() string {
	return fmt.Sprintf("spec.domain.devices.interfaces[%s]: %s", e.Interface, e.Detail)
}

// MakePlan decides how vmi's interfaces are joined to pod. What cannot be honoured is an *InterfaceError.
func MakePlan(vmi *v1.VirtualMachineInstance, pod Pod) (Plan, error) {
	networks := make(map[string]*v1.Network, len(vmi.Spec.Networks))
	for i := range vmi.Spec.Networks {
		networks[vmi.Spec.Networks[i].Name] = &vmi.Spec.Networks[i]
	}
	var plan Plan
	for i := range vmi.Spec.Domain.Devices.Interfaces {
		iface := &vmi.Spec.Domain.Devices.Interfaces[i]
		if iface.State == v1.InterfaceStateAbsent {
			continue
		}
		planned, err := planInterface(vmi, iface, networks[iface.Name], pod, i)
		if err != nil {
			return Plan{}, err
		}
		plan.Interfaces = append(plan.Interfaces, *planned)
	}
	return plan, nil
}

func planInterface(vmi *v1.VirtualMachineInstance, iface *v1.Interface, network *v1.Network, pod Pod, index int) (*Interface, error) {
	fail := func(format string, args ...any) (*Interface, error) {
		return nil, &InterfaceError{Interface: iface.Name, Detail: fmt.Sprintf(format, args...)}
	}
	if network == nil {
		return fail("there is no network of that name; add it to spec.networks")
	}
	name, primary := podLinkOf(vmi, network, pod)
	p := &Interface{Name: iface.Name, PodLink: name, LinkDown: iface.State == v1.InterfaceStateLinkDown}
	if iface.SRIOV != nil {
		p.Binding, p.MAC = SRIOV, iface.MacAddress
		return p, nil
	}
	link, ok := pod.link(name)
	if !ok {
		return fail("the pod has no link %s; check that the network attachment %q exists and works", name, network.Name)
	}
	n := namesFor(name, network.Name, primary)
	p.Bridge, p.Tap, p.MTU, p.Queues = n.bridge, n.tap, link.MTU, queues(vmi, iface)
	p.Addrs = addrs(link)
	switch {
	case iface.Masquerade != nil:
		return p, planMasquerade(p, vmi, iface, network, pod)
	case iface.Bridge != nil:
		return p, planBridge(p, vmi, iface, pod, index)
	case iface.PasstBinding != nil || iface.Binding != nil && iface.Binding.Name == "passt":
		p.Binding, p.Bridge, p.Tap = Passt, "", ""
		p.MAC = firstOf(iface.MacAddress, link.MAC)
		return p, nil
	case iface.Binding != nil:
		return fail("no network binding plugin %q is installed in this cluster; use masquerade or bridge", iface.Binding.Name)
	}
	return fail("it names no binding; add masquerade: {} or bridge: {}")
}

func podLinkOf(vmi *v1.VirtualMachineInstance, network *v1.Network, pod Pod) (name string, primary bool) {
	if network.Pod != nil || network.Multus != nil && network.Multus.Default {
		return firstOf(pod.Attachments[""], primaryLink), true
	}
	if network.Multus == nil {
		return SecondaryLink(network.Name), false
	}
	if _, ok := pod.link(SecondaryLink(network.Name)); ok {
		return SecondaryLink(network.Name), false
	}
	full := network.Multus.NetworkName
	if !strings.Contains(full, "/") {
		full = vmi.Namespace + "/" + full
	}
	return firstOf(pod.Attachments[full], SecondaryLink(network.Name)), false
}

func planMasquerade(p *Interface, vmi *v1.VirtualMachineInstance, iface *v1.Interface, network *v1.Network, pod Pod) error {
	link, _ := pod.link(p.PodLink)
	p.Binding = Masquerade
	p.MAC = firstOf(normalMAC(iface.MacAddress), derivedMAC(string(vmi.UID)+"/"+iface.Name))
	spec := network.Pod
	if spec == nil {
		return &InterfaceError{Interface: iface.Name, Detail: "masquerade works on the pod network only; use bridge for this network"}
	}
	m := &MasqueradePlan{}
	if link.has(false) {
		pair, err := pairIn(firstOf(spec.VMNetworkCIDR, "10.0.2.0/24"), false)
		if err != nil {
			return &InterfaceError{Interface: iface.Name, Detail: "vmNetworkCIDR: " + err.Error()}
		}
		m.V4 = pair
	}
	if link.has(true) {
		pair, err := pairIn(firstOf(spec.VMIPv6NetworkCIDR, "fd10:0:2::/120"), true)
		if err != nil {
			return &InterfaceError{Interface: iface.Name, Detail: "vmIPv6NetworkCIDR: " + err.Error()}
		}
		m.V6 = pair
	}
	if m.V4 == nil && m.V6 == nil {
		return &InterfaceError{Interface: iface.Name, Detail: fmt.Sprintf("the pod's link %s has no address; check the cluster's network plugin", link.Name)}
	}
	m.Ports = portRanges(iface)
	p.Masquerade = m
	d := dhcpFor(p, vmi, iface, pod)
	if m.V4 != nil {
		d.IPv4, d.Gateway4, d.Server4 = m.V4.Guest.String(), m.V4.Gateway.Addr().String(), m.V4.Gateway.Addr().String()
	}
	if m.V6 != nil {
		d.IPv6, d.Gateway6 = m.V6.Guest.String(), m.V6.Gateway.Addr().String()
	}
	p.DHCP = d
	return nil
}

func planBridge(p *Interface, vmi *v1.VirtualMachineInstance, iface *v1.Interface, pod Pod, index int) error {
	link, _ := pod.link(p.PodLink)
	p.Binding = Bridge
	p.MAC = firstOf(normalMAC(iface.MacAddress), toldMAC(vmi, iface.Name), link.MAC)
	p.Move = &MovePlan{
		Keeper:  keeperOf(link.Name),
		Link:    link,
		PortMAC: derivedMAC(string(vmi.UID) + "/" + iface.Name + "/port"),
		Server:  netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 75, byte(10 + index)}), 32),
	}
	if !link.has(false) {
		return nil // no addresses to hand out: the guest asks whoever is on that network
	}
	d := dhcpFor(p, vmi, iface, pod)
	d.IPv4, d.Server4 = link.Addrs[0].String(), p.Move.Server.Addr().String()
	d.Gateway4, d.Routes = guestRoutes(link)
	p.DHCP = d
	return nil
}

// toldMAC is the address that the guest's card is known by. A guest that comes from another node keeps its card, while the pod's link is a
// new one.
func toldMAC(vmi *v1.VirtualMachineInstance, card string) string {
	for _, i := range vmi.Status.Interfaces {
		if i.Name == card {
			return normalMAC(i.MAC)
		}
	}
	return ""
}

// guestRoutes gives the default gateway and, when the pod has more routes than that one, all of them.
func guestRoutes(link Link) (gateway string, routes []wire.Route) {
	extra := false
	for _, r := range link.Routes {
		if !r.Dst.Addr().Is4() || r.Dst == link.Addrs[0].Masked() && !r.Gateway.IsValid() {
			continue
		}
		via := netip.IPv4Unspecified()
		if r.Gateway.IsValid() {
			via = r.Gateway
		}
		if r.Dst.Bits() == 0 && r.Gateway.IsValid() {
			gateway = r.Gateway.String()
		} else {
			extra = true
		}
		routes = append(routes, wire.Route{Destination: r.Dst.String(), Gateway: via.String()})
	}
	if !extra {
		return gateway, nil
	}
	return gateway, routes
}

func dhcpFor(p *Interface, vmi *v1.VirtualMachineInstance, iface *v1.Interface, pod Pod) *wire.DHCPInterface {
	d := &wire.DHCPInterface{
		Bridge: p.Bridge, GuestMAC: p.MAC, MTU: uint16(p.MTU), DNS: pod.Resolver.Servers, Search: pod.Resolver.Search,
		Hostname: hostname(vmi),
	}
	if o := iface.DHCPOptions; o != nil {
		d.NTP, d.TFTPServer, d.BootFile = o.NTPServers, o.TFTPServerName, o.BootFileName
		for _, private := range o.PrivateOptions {
			if d.Private == nil {
				d.Private = map[int]string{}
			}
			d.Private[private.Option] = private.Value
		}
	}
	return d
}

func hostname(vmi *v1.VirtualMachineInstance) string {
	name, _, _ := strings.Cut(firstOf(vmi.Spec.Hostname, vmi.Name), ".")
	const maxLabel = 63
	return strings.TrimRight(name[:min(len(name), maxLabel)], "-")
}

func portRanges(iface *v1.Interface) []PortRange {
	ranges := make([]PortRange, 0, len(iface.Ports)+len(iface.PortRanges))
	for _, p := range iface.Ports {
		ranges = append(ranges, PortRange{protocol(p.Protocol), uint16(p.Port), uint16(p.Port)})
	}
	for _, r := range iface.PortRanges {
		ranges = append(ranges, PortRange{protocol(r.Protocol), uint16(r.Start), uint16(r.End)})
	}
	return ranges
}

func protocol(p string) string { return strings.ToLower(firstOf(p, "tcp")) }

// pairIn takes the first two hosts of a network.
func pairIn(cidr string, v6 bool) (*Pair, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil, fmt.Errorf("%q is not a network; write it like 10.0.2.0/24", cidr)
	}
	if prefix.Addr().Is6() != v6 {
		return nil, fmt.Errorf("%s is of the wrong address family", cidr)
	}
	gateway := prefix.Masked().Addr().Next()
	guest := gateway.Next()
	if !prefix.Contains(guest) || !prefix.Contains(guest.Next()) {
		return nil, fmt.Errorf("%s has no room for a gateway and a guest", cidr)
	}
	return &Pair{Gateway: netip.PrefixFrom(gateway, prefix.Bits()), Guest: netip.PrefixFrom(guest, prefix.Bits())}, nil
}

func addrs(link Link) []netip.Addr {
	list := make([]netip.Addr, 0, len(link.Addrs))
	for _, a := range link.Addrs {
		list = append(list, a.Addr())
	}
	return list
}

func normalMAC(s string) string {
	mac, err := net.ParseMAC(s)
	if err != nil {
		return ""
	}
	return mac.String()
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
