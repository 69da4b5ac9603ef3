package rules

import (
	"net"
	"net/netip"
	"regexp"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// gatewayMAC is ours: the bridge between a masqueraded guest and its pod has it.
const gatewayMAC = "02:00:00:00:00:00"

func networkName() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_-]+$`) }

func networkNamed(spec *v1.VirtualMachineInstanceSpec, name string) *v1.Network {
	i := slices.IndexFunc(spec.Networks, func(n v1.Network) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return &spec.Networks[i]
}

// networks and interfaces belong together one to one, by name.
func networks(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	list := at.Child("networks")
	first := map[string]int{}
	pods, defaults := 0, 0
	for i, n := range spec.Networks {
		network := list.Index(i)
		if n.Name == "" {
			c.required(network.Child("name"), "Network must have a name")
		}
		if other, seen := first[n.Name]; seen {
			c.duplicate(network.Child("name"), "Network with name %q already exists, every network must have a unique name (%s, %s)",
				n.Name, list.Index(other), network)
			continue
		}
		first[n.Name] = i
		if kinds := count(n.Pod != nil, n.Multus != nil, n.ResourceClaim != nil); kinds != 1 {
			c.required(network, "%s should have exactly one network type, pod or multus, not %d", network, kinds)
		}
		pods += count(n.Pod != nil)
		defaults += count(n.Multus != nil && n.Multus.Default)
		if n.Multus != nil && n.Multus.NetworkName == "" {
			c.required(network.Child("multus", "networkName"), "CNI delegating plugin must have a networkName")
		}
		if n.ResourceClaim != nil {
			c.gate(network.Child("resourceClaim"), clusterconfig.GateNetworkDevicesWithDRA, "a network from a resource claim")
		}
		if n.Pod != nil {
			podCIDR(c, network.Child("pod"), n.Pod)
		}
		if !slices.ContainsFunc(spec.Domain.Devices.Interfaces, func(f v1.Interface) bool { return f.Name == n.Name }) {
			c.required(network.Child("name"), "%s '%s' not found: no interface in %s has this name", network.Child("name"), n.Name,
				below(at, "domain.devices.interfaces"))
		}
	}
	if pods > 1 {
		c.duplicate(list, "more than one interface is connected to a pod network in %s", list)
	}
	if defaults > 1 {
		c.invalid(list, "Multus CNI should only have one default network")
	}
	if pods > 0 && defaults > 0 {
		c.invalid(list, "Pod network cannot be defined when Multus default network is defined")
	}
}

func podCIDR(c *Check, at *field.Path, p *v1.PodNetwork) {
	if p.VMNetworkCIDR != "" {
		if prefix, err := netip.ParsePrefix(p.VMNetworkCIDR); err != nil || !prefix.Addr().Is4() {
			c.invalid(at.Child("vmNetworkCIDR"), "%s %q is not an IPv4 network such as 10.0.2.0/24", at.Child("vmNetworkCIDR"), p.VMNetworkCIDR)
		}
	}
	if p.VMIPv6NetworkCIDR != "" {
		if prefix, err := netip.ParsePrefix(p.VMIPv6NetworkCIDR); err != nil || !prefix.Addr().Is6() {
			c.invalid(at.Child("vmIPv6NetworkCIDR"), "%s %q is not an IPv6 network such as fd10:0:2::/120", at.Child("vmIPv6NetworkCIDR"),
				p.VMIPv6NetworkCIDR)
		}
	}
}

func interfaces(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	list := below(at, "domain.devices.interfaces")
	first := map[string]int{}
	for i, n := range spec.Domain.Devices.Interfaces {
		nic := list.Index(i)
		switch {
		case n.Name == "" || len(n.Name) > validation.DNS1123LabelMaxLength || !networkName().MatchString(n.Name):
			c.invalid(nic.Child("name"), "Network interface name %q can only contain alphabetical characters, numbers, dashes (-) or underscores (_),"+
				" at most %d", n.Name, validation.DNS1123LabelMaxLength)
		case networkNamed(spec, n.Name) == nil:
			c.notFound(nic.Child("name"), "%s '%s' not found.", nic.Child("name"), n.Name)
		}
		if other, seen := first[n.Name]; seen {
			c.duplicate(nic.Child("name"), "Only one interface can be connected to one specific network (%s, %s)", list.Index(other), nic)
		} else {
			first[n.Name] = i
		}
		enum(c, nic.Child("model"), n.Model, "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139", "virtio")
		enum(c, nic.Child("state"), n.State, v1.InterfaceStateAbsent, v1.InterfaceStateLinkUp, v1.InterfaceStateLinkDown)
		mac(c, nic.Child("macAddress"), n)
		if n.PciAddress != "" && !pciAddress().MatchString(n.PciAddress) {
			c.invalid(nic.Child("pciAddress"), "interface %s has malformed PCI address (%s).", nic.Child("name"), n.PciAddress)
		}
		if n.ACPIIndex < 0 || n.ACPIIndex > 16383 {
			c.invalid(nic.Child("acpiIndex"), "%s must be between 0 and 16383", nic.Child("acpiIndex"))
		}
	}
}

func mac(c *Check, at *field.Path, n v1.Interface) {
	if n.MacAddress == "" {
		return
	}
	address, err := net.ParseMAC(n.MacAddress)
	switch {
	case err != nil:
		c.invalid(at, "interface %s has malformed MAC address (%s).", n.Name, n.MacAddress)
	case len(address) > 6:
		c.invalid(at, "interface %s has MAC address (%s) that is too long.", n.Name, n.MacAddress)
	case address[0]&1 == 1:
		c.invalid(at, "interface %s has a multicast MAC address (%s), which no machine can have.", n.Name, n.MacAddress)
	case n.Masquerade != nil && address.String() == gatewayMAC:
		c.invalid(at, "The requested MAC address is reserved for the in-pod bridge. Please choose another one.")
	}
}

// bindings are how interfaces are joined to their networks.
func bindings(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for i, n := range spec.Domain.Devices.Interfaces {
		nic := below(at, "domain.devices.interfaces").Index(i)
		network := networkNamed(spec, n.Name)
		onPod := network != nil && network.Pod != nil
		switch {
		case n.DeprecatedSlirp != nil:
			c.unsupported(nic.Child("slirp"), "Slirp interface support has been discontinued since v1.3")
		case n.DeprecatedMacvtap != nil:
			c.unsupported(nic.Child("macvtap"), "Macvtap network binding has been discontinued since v1.3, use a network binding plugin")
		case n.DeprecatedPasst != nil:
			c.unsupported(nic.Child("passt"), "Passt network binding has been discontinued since v1.3, use passtBinding")
		}
		methods := count(n.Bridge != nil, n.Masquerade != nil, n.SRIOV != nil, n.PasstBinding != nil, n.DeprecatedSlirp != nil,
			n.DeprecatedMacvtap != nil, n.DeprecatedPasst != nil, n.Binding != nil)
		if methods != 1 {
			c.invalid(nic, "%s must have exactly one binding, such as masquerade, bridge, sriov or a binding plugin, not %d", nic, methods)
			continue
		}
		switch {
		case n.Masquerade != nil && network != nil && !onPod:
			c.invalid(nic.Child("name"), "Masquerade interface only implemented with pod network")
		case n.PasstBinding != nil:
			if c.gate(nic.Child("passtBinding"), clusterconfig.GatePasstBinding, "the passt binding") && network != nil && !onPod {
				c.invalid(nic.Child("name"), "Passt interface only implemented with pod network")
			}
		case n.Bridge != nil && onPod && !c.cluster.Network.PermitBridgeOnPodNetwork:
			c.invalid(nic.Child("name"), "Bridge on pod network configuration is not enabled under kubevirt-config")
		case n.SRIOV != nil && onPod:
			c.invalid(nic.Child("name"), "SR-IOV interface cannot be connected to the pod network")
		case n.Binding != nil:
			if _, known := c.cluster.Network.BindingPlugins[n.Binding.Name]; !known {
				c.notFound(nic.Child("binding", "name"), "network binding plugin %q is not registered in the KubeVirt object", n.Binding.Name)
			}
		}
	}
}

func ports(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	names := map[string]bool{}
	for i, n := range spec.Domain.Devices.Interfaces {
		nic := below(at, "domain.devices.interfaces").Index(i)
		for j, p := range n.Ports {
			port := nic.Child("ports").Index(j)
			switch {
			case p.Port == 0:
				c.required(port.Child("port"), "Port field is mandatory.")
			case p.Port < 0 || p.Port > 65535:
				c.invalid(port.Child("port"), "Port field must be in range 0 < x < 65536.")
			}
			protocol := p.Protocol
			if protocol == "" {
				protocol = "TCP"
			}
			if protocol != "TCP" && protocol != "UDP" {
				c.invalid(port.Child("protocol"), "Unknown protocol %q, only TCP or UDP allowed", p.Protocol)
			}
			if p.Name == "" {
				continue
			}
			if names[p.Name] {
				c.duplicate(port.Child("name"), "Duplicate name of the port: %s", p.Name)
			}
			names[p.Name] = true
			if problems := validation.IsValidPortName(p.Name); len(problems) > 0 {
				c.invalid(port.Child("name"), "Invalid name of the port: %s: %s", p.Name, problems[0])
			}
		}
		portRanges(c, nic.Child("portRanges"), n.PortRanges)
	}
}

func portRanges(c *Check, at *field.Path, ranges []v1.PortRange) {
	if len(ranges) == 0 || !c.gate(at, clusterconfig.GatePortRangesSpec, "port ranges") {
		return
	}
	for i, r := range ranges {
		if r.Start < 1 || r.End > 65535 || r.Start > r.End {
			c.invalid(at.Index(i), "%s must run from a lower to a higher port between 1 and 65535", at.Index(i))
		}
		if r.Protocol != "TCP" && r.Protocol != "UDP" {
			c.invalid(at.Index(i).Child("protocol"), "Unknown protocol %q, only TCP or UDP allowed", r.Protocol)
		}
	}
}

func dhcp(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for i, n := range spec.Domain.Devices.Interfaces {
		if n.DHCPOptions == nil {
			continue
		}
		options := below(at, "domain.devices.interfaces").Index(i).Child("dhcpOptions")
		for j, server := range n.DHCPOptions.NTPServers {
			if a, err := netip.ParseAddr(server); err != nil || !a.Is4() {
				c.invalid(options.Child("ntpServers").Index(j), "NTP servers must be a list of valid IPv4 addresses.")
			}
		}
		seen := map[int]bool{}
		for j, o := range n.DHCPOptions.PrivateOptions {
			option := options.Child("privateOptions").Index(j)
			if o.Option < 224 || o.Option > 254 {
				c.invalid(option, "provided DHCPPrivateOptions are out of range, must be in range 224 to 254")
			}
			if seen[o.Option] {
				c.duplicate(option, "Found Duplicates: you have provided duplicate DHCPPrivateOptions")
			}
			if len(o.Value) > 255 {
				c.invalid(option.Child("value"), "%s must be at most 255 bytes long", option.Child("value"))
			}
			seen[o.Option] = true
		}
	}
}
