package vm

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/create/params"
)

// hardware adds what the flags say about the machine besides processors, memory and disks.
func (b *builder) hardware() error {
	h := b.opts.Hardware
	if h.DiskBus != "" && !slices.Contains([]string{"virtio", "sata", "scsi", "usb"}, h.DiskBus) {
		return params.Errorf("disk-bus", "unknown bus %q, supported values are: virtio, sata, scsi, usb", h.DiskBus)
	}
	if h.MachineType != "" {
		b.spec.Domain.Machine = &kubevirtv1.Machine{Type: h.MachineType}
	}
	for _, step := range []func() error{b.firmware, b.tpm, b.networks} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) firmware() error {
	yes, no := true, false
	boot := &kubevirtv1.Bootloader{}
	switch kind := strings.ToLower(b.opts.Hardware.Firmware); kind {
	case "":
		return nil
	case "bios":
		boot.BIOS = &kubevirtv1.BIOS{}
	case "uefi", "efi":
		boot.EFI = &kubevirtv1.EFI{SecureBoot: &no}
	case "uefi-secure", "efi-secure":
		boot.EFI = &kubevirtv1.EFI{SecureBoot: &yes}
		// Secure boot keeps its variables behind system management mode.
		b.spec.Domain.Features = &kubevirtv1.Features{SMM: &kubevirtv1.FeatureState{Enabled: &yes}}
	default:
		return params.Errorf("firmware", "unknown firmware %q, supported values are: bios, uefi, uefi-secure", kind)
	}
	b.spec.Domain.Firmware = &kubevirtv1.Firmware{Bootloader: boot}
	return nil
}

func (b *builder) tpm() error {
	yes := true
	switch kind := strings.ToLower(b.opts.Hardware.TPM); kind {
	case "":
	case "ephemeral", "true":
		b.spec.Domain.Devices.TPM = &kubevirtv1.TPMDevice{}
	case "persistent":
		b.spec.Domain.Devices.TPM = &kubevirtv1.TPMDevice{Persistent: &yes}
	default:
		return params.Errorf("tpm", "unknown kind %q, supported values are: ephemeral, persistent", kind)
	}
	return nil
}

func (b *builder) networks() error {
	given := b.opts.Hardware.Networks
	if slices.Contains(given, none) {
		if len(given) > 1 {
			return params.Errorf("network", "none cannot be combined with networks")
		}
		no := false
		b.spec.Domain.Devices.AutoattachPodInterface = &no
		return nil
	}
	for i, text := range given {
		if err := b.network(i, text); err != nil {
			return err
		}
	}
	return nil
}

// network adds one card. The pod network is reached through address translation, others through a bridge.
func (b *builder) network(index int, text string) error {
	if !strings.Contains(text, ":") {
		text = "src:" + text
	}
	values, err := params.Parse("network", text, "src", "name", "binding", "model", "mac", "ports", "bootorder")
	if err != nil {
		return err
	}
	source, err := values.Need("src")
	if err != nil {
		return err
	}
	order, err := values.Count("bootorder")
	if err != nil {
		return err
	}
	card := kubevirtv1.Interface{Name: values.Get("name"), Model: values.Get("model"), BootOrder: order}
	network := kubevirtv1.Network{}
	binding := values.Get("binding")
	if source == "pod" {
		network.Pod = &kubevirtv1.PodNetwork{}
		card.Name = first(card.Name, "default")
		binding = first(binding, "masquerade")
	} else {
		network.Multus = &kubevirtv1.MultusNetwork{NetworkName: source}
		card.Name = first(card.Name, fmt.Sprintf("net%d", index))
		binding = first(binding, "bridge")
	}
	network.Name = card.Name
	if err := bind(&card, binding, values); err != nil {
		return err
	}
	if card.MacAddress, err = macOf(values); err != nil {
		return err
	}
	if card.Ports, err = portsOf(values); err != nil {
		return err
	}
	if slices.ContainsFunc(b.spec.Networks, func(n kubevirtv1.Network) bool { return n.Name == network.Name }) {
		return values.Errorf("there is already a network with name '%s'", network.Name)
	}
	b.spec.Networks = append(b.spec.Networks, network)
	b.spec.Domain.Devices.Interfaces = append(b.spec.Domain.Devices.Interfaces, card)
	return nil
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

func bind(card *kubevirtv1.Interface, binding string, values params.Values) error {
	switch strings.ToLower(binding) {
	case "masquerade":
		card.Masquerade = &kubevirtv1.InterfaceMasquerade{}
	case "bridge":
		card.Bridge = &kubevirtv1.InterfaceBridge{}
	case "sriov":
		card.SRIOV = &kubevirtv1.InterfaceSRIOV{}
	default:
		return values.Errorf("unknown binding %q, supported values are: masquerade, bridge, sriov", binding)
	}
	return nil
}

func macOf(values params.Values) (string, error) {
	text := values.Get("mac")
	if text == "" {
		return "", nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return "", values.Errorf("%q is not a MAC address such as 02:00:00:12:34:56", text)
	}
	return mac.String(), nil
}

// portsOf reads "22;80/tcp;53/udp".
func portsOf(values params.Values) ([]kubevirtv1.Port, error) {
	var ports []kubevirtv1.Port
	for _, text := range values.List("ports") {
		number, protocol, _ := strings.Cut(text, "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil || port == 0 {
			return nil, values.Errorf("%q is not a port between 1 and 65535", number)
		}
		protocol = strings.ToUpper(first(protocol, "tcp"))
		if protocol != "TCP" && protocol != "UDP" {
			return nil, values.Errorf("unknown protocol in port %q, supported values are: tcp, udp", text)
		}
		ports = append(ports, kubevirtv1.Port{Port: int32(port), Protocol: protocol})
	}
	return ports, nil
}
