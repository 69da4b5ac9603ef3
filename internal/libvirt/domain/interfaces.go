package domain

import (
	"fmt"
	"net"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// InterfaceDevice is the XML of one interface, to plug it into a running domain or to update its link.
func InterfaceDevice(vmi *v1.VirtualMachineInstance, name string, facts Interface) (string, error) {
	b, err := newBuilder(vmi, Input{})
	if err != nil {
		return "", err
	}
	b.dom.OS = &libvirtxml.DomainOS{}
	for i := range b.spec.Devices.Interfaces {
		spec := &b.spec.Devices.Interfaces[i]
		if spec.Name != name {
			continue
		}
		if spec.SRIOV != nil {
			return "", invalid(interfacePath(i).Child("sriov"), "an SR-IOV interface is plugged as a host device")
		}
		iface, err := b.iface(i, facts)
		if err != nil {
			return "", err
		}
		doc, err := iface.Marshal()
		if err != nil {
			return "", fmt.Errorf("write interface %s: %w", name, err)
		}
		return doc, nil
	}
	return "", invalid(devicesPath().Child("interfaces"), "no interface is named %q", name)
}

func interfacePath(i int) *field.Path { return devicesPath().Child("interfaces").Index(i) }

func (b *builder) interfaces() error {
	networks := map[string]bool{}
	for i := range b.vmi.Spec.Networks {
		networks[b.vmi.Spec.Networks[i].Name] = true
	}
	for i := range b.spec.Devices.Interfaces {
		spec := &b.spec.Devices.Interfaces[i]
		if spec.State == v1.InterfaceStateAbsent {
			continue
		}
		if !networks[spec.Name] {
			return invalid(interfacePath(i).Child("name"), "no network is named %q; add it to spec.networks", spec.Name)
		}
		if spec.SRIOV != nil {
			if err := b.sriov(i); err != nil {
				return err
			}
			continue
		}
		facts, ok := b.in.Interfaces[spec.Name]
		if !ok {
			return invalid(interfacePath(i).Child("name"), "the pod's network has no link for %q", spec.Name)
		}
		iface, err := b.iface(i, facts)
		if err != nil {
			return err
		}
		b.dom.Devices.Interfaces = append(b.dom.Devices.Interfaces, *iface)
	}
	return nil
}

func (b *builder) iface(i int, facts Interface) (*libvirtxml.DomainInterface, error) {
	spec, at := &b.spec.Devices.Interfaces[i], interfacePath(i)
	iface := &libvirtxml.DomainInterface{Alias: &libvirtxml.DomainAlias{Name: "ua-" + spec.Name}}
	if err := b.binding(iface, spec, at, facts); err != nil {
		return nil, err
	}
	if err := b.interfaceModel(iface, spec, at, facts); err != nil {
		return nil, err
	}
	mac := facts.MAC
	if mac == "" {
		mac = spec.MacAddress
	}
	if mac != "" {
		parsed, err := net.ParseMAC(mac)
		if err != nil || len(parsed) != 6 {
			return nil, invalid(at.Child("macAddress"), "%q is not a MAC address", mac)
		}
		iface.MAC = &libvirtxml.DomainInterfaceMAC{Address: parsed.String()}
	}
	if spec.ACPIIndex != 0 {
		if spec.ACPIIndex < 0 {
			return nil, invalid(at.Child("acpiIndex"), "must be greater than zero")
		}
		iface.ACPI = &libvirtxml.DomainDeviceACPI{Index: uint(spec.ACPIIndex)}
	}
	if spec.PciAddress != "" {
		address, err := pciAddress(spec.PciAddress, at.Child("pciAddress"))
		if err != nil {
			return nil, err
		}
		iface.Address = address
	}
	if err := oneOf(at.Child("state"), string(spec.State), "", "up", "down", "absent"); err != nil {
		return nil, err
	}
	if spec.State == v1.InterfaceStateLinkDown {
		iface.Link = &libvirtxml.DomainInterfaceLink{State: "down"}
	}
	// A boot ROM costs start time and memory and is of use only to boot from the network.
	iface.ROM = &libvirtxml.DomainROM{Enabled: "no"}
	if spec.BootOrder != nil {
		if *spec.BootOrder == 0 {
			return nil, invalid(at.Child("bootOrder"), "must be greater than zero")
		}
		iface.Boot, iface.ROM = &libvirtxml.DomainDeviceBoot{Order: *spec.BootOrder}, nil
	}
	return iface, nil
}

// binding says how the guest's interface meets the pod's.
func (b *builder) binding(iface *libvirtxml.DomainInterface, spec *v1.Interface, at *field.Path, facts Interface) error {
	switch {
	case spec.Binding != nil:
		return invalid(at.Child("binding"), "network binding plugins are not available; use masquerade, bridge or sriov")
	case spec.DeprecatedSlirp != nil, spec.DeprecatedMacvtap != nil, spec.DeprecatedPasst != nil:
		return invalid(at, "slirp, macvtap and passt were removed from the API; use masquerade, bridge or passtBinding")
	case spec.PasstBinding != nil:
		return b.passt(iface, spec, at, facts)
	}
	if facts.Tap == "" {
		return invalid(at.Child("name"), "the pod's network has no tap device for %q", spec.Name)
	}
	iface.Source = &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}}
	iface.Target = &libvirtxml.DomainInterfaceTarget{Dev: facts.Tap, Managed: "no"}
	return nil
}

// passt connects through a user-space translator that sees the guest's memory. Without ports it forwards all of them.
func (b *builder) passt(iface *libvirtxml.DomainInterface, spec *v1.Interface, at *field.Path, facts Interface) error {
	link := facts.PodInterface
	if link == "" {
		link = "eth0"
	}
	iface.Source = &libvirtxml.DomainInterfaceSource{VHostUser: &libvirtxml.DomainInterfaceSourceVHostUser{Dev: link}}
	iface.Backend = &libvirtxml.DomainInterfaceBackend{Type: "passt"}
	ranges := map[string][]libvirtxml.DomainInterfaceSourcePortForwardRange{}
	for i, port := range spec.Ports {
		protocol := strings.ToLower(port.Protocol)
		if protocol == "" {
			protocol = "tcp"
		}
		if err := oneOf(at.Child("ports").Index(i).Child("protocol"), protocol, "tcp", "udp"); err != nil {
			return err
		}
		if port.Port <= 0 || port.Port > 65535 {
			return invalid(at.Child("ports").Index(i).Child("port"), "must be between 1 and 65535")
		}
		ranges[protocol] = append(ranges[protocol], libvirtxml.DomainInterfaceSourcePortForwardRange{Start: uint(port.Port)})
	}
	for _, protocol := range []string{"tcp", "udp"} {
		if len(spec.Ports) == 0 || len(ranges[protocol]) > 0 {
			iface.PortForward = append(iface.PortForward, libvirtxml.DomainInterfaceSourcePortForward{Proto: protocol, Ranges: ranges[protocol]})
		}
	}
	b.shareMemory()
	return nil
}

func (b *builder) interfaceModel(iface *libvirtxml.DomainInterface, spec *v1.Interface, at *field.Path, facts Interface) error {
	model := spec.Model
	if model == "" {
		model = v1.VirtIO
	}
	if err := oneOf(at.Child("model"), model, "virtio", "e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139"); err != nil {
		return err
	}
	if model != v1.VirtIO {
		if !b.arch.pcie || spec.PasstBinding != nil {
			return invalid(at.Child("model"), "%s is not possible here; use virtio", model)
		}
		iface.Model = &libvirtxml.DomainInterfaceModel{Type: model}
		return nil
	}
	iface.Model = &libvirtxml.DomainInterfaceModel{Type: b.virtio()}
	if facts.MTU > 0 {
		iface.MTU = &libvirtxml.DomainInterfaceMTU{Size: facts.MTU}
	}
	if facts.Queues > 1 {
		iface.Driver = &libvirtxml.DomainInterfaceDriver{Queues: facts.Queues}
	}
	if spec.PasstBinding == nil && b.in.Host.VhostNet && b.in.Host.KVM {
		if iface.Driver == nil {
			iface.Driver = &libvirtxml.DomainInterfaceDriver{}
		}
		iface.Driver.Name = "vhost"
	}
	return nil
}
