package status

import (
	"net/netip"
	"slices"
	"strings"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/network"
)

// Where an interface's data comes from.
const (
	fromDomain = "domain"
	fromAgent  = "guest-agent"
	fromMultus = "multus-status"
)

// Bounds of what a guest may put into the object (CVE-2025-14525).
const (
	maxGuestInterfaces = 16
	maxGuestIPs        = 16
	maxGuestName       = 64
)

// setInterfaces lists the guest's interfaces: first those of the spec in their order, then those that only the guest knows.
func setInterfaces(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus, o *Observed) {
	byMAC := map[string]wire.GuestInterface{}
	var guest []wire.GuestInterface
	if o.Agent && o.Guest != nil {
		guest = o.Guest.Interfaces
	}
	for _, g := range guest {
		if mac := strings.ToLower(g.MAC); mac != "" {
			if _, taken := byMAC[mac]; !taken {
				byMAC[mac] = g
			}
		}
	}
	list := make([]v1.VirtualMachineInstanceNetworkInterface, 0, len(o.Plan.Interfaces))
	used := map[string]bool{}
	for i := range o.Plan.Interfaces {
		p := &o.Plan.Interfaces[i]
		entry := planned(vmi, p)
		if o.Domain != nil {
			if down, known := o.Domain.LinkDown[p.Name]; known {
				entry.LinkState = linkState(down)
			}
		}
		if g, ok := byMAC[strings.ToLower(p.MAC)]; ok {
			used[g.Name] = true
			entry.InterfaceName = short(g.Name)
			entry.InfoSource += ", " + fromAgent
			// A masqueraded guest's own address means nothing outside of its pod.
			if ips := guestIPs(g); p.Binding != network.Masquerade && len(ips) > 0 {
				entry.IP, entry.IPs = ips[0], ips
			}
		}
		if secondary(vmi, p.Name) {
			entry.InfoSource += ", " + fromMultus
		}
		list = append(list, entry)
	}
	status.Interfaces = append(list, guestOnly(guest, used)...)
}

// setAddresses corrects what the pod decides of a guest whose agent is still to be heard: its addresses are others on another node.
func setAddresses(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus, o *Observed) {
	interfaces := slices.Clone(status.Interfaces)
	for i := range o.Plan.Interfaces {
		p := &o.Plan.Interfaces[i]
		at := slices.IndexFunc(interfaces, func(x v1.VirtualMachineInstanceNetworkInterface) bool { return x.Name == p.Name })
		if at < 0 {
			continue
		}
		known := &interfaces[at]
		if p.Binding == network.Masquerade || !strings.Contains(known.InfoSource, fromAgent) {
			now := planned(vmi, p)
			known.IP, known.IPs, known.PodInterfaceName = now.IP, now.IPs, now.PodInterfaceName
		}
	}
	status.Interfaces = interfaces
}

func linkState(down bool) string {
	if down {
		return string(v1.InterfaceStateLinkDown)
	}
	return string(v1.InterfaceStateLinkUp)
}

func planned(vmi *v1.VirtualMachineInstance, p *network.Interface) v1.VirtualMachineInstanceNetworkInterface {
	entry := v1.VirtualMachineInstanceNetworkInterface{
		Name: p.Name, MAC: p.MAC, InfoSource: fromDomain, QueueCount: int32(max(p.Queues, 1)),
		PodInterfaceName: p.PodLink, LinkState: linkState(p.LinkDown),
	}
	// What a secondary network's link has is the guest's to say; on the pod network the pod's addresses are the guest's.
	if !secondary(vmi, p.Name) {
		for _, a := range p.Addrs {
			entry.IPs = append(entry.IPs, a.String())
		}
	}
	if len(entry.IPs) > 0 {
		entry.IP = entry.IPs[0]
	}
	return entry
}

func secondary(vmi *v1.VirtualMachineInstance, name string) bool {
	for _, n := range vmi.Spec.Networks {
		if n.Name == name {
			return n.Multus != nil && !n.Multus.Default
		}
	}
	return false
}

func guestOnly(guest []wire.GuestInterface, used map[string]bool) []v1.VirtualMachineInstanceNetworkInterface {
	var list []v1.VirtualMachineInstanceNetworkInterface
	for _, g := range guest {
		if used[g.Name] || g.Name == "lo" || g.MAC == "" || len(list) >= maxGuestInterfaces {
			continue
		}
		entry := v1.VirtualMachineInstanceNetworkInterface{
			MAC: short(g.MAC), InterfaceName: short(g.Name), InfoSource: fromAgent, IPs: guestIPs(g),
		}
		if len(entry.IPs) > 0 {
			entry.IP = entry.IPs[0]
		}
		list = append(list, entry)
	}
	return list
}

// guestIPs keeps what is an address that somebody else could use.
func guestIPs(g wire.GuestInterface) []string {
	var ips []string
	for _, s := range g.IPs {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.IsLoopback() || addr.IsLinkLocalUnicast() || len(ips) >= maxGuestIPs {
			continue
		}
		ips = append(ips, addr.String())
	}
	return ips
}

func short(s string) string {
	if len(s) > maxGuestName {
		return s[:maxGuestName]
	}
	return s
}
