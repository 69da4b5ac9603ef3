package domain

import (
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"

	"virtctl/internal/libvirt/layout"
)

// HasSerialConsole tells whether the guest has the serial port that console connects to.
func HasSerialConsole(vmi *v1.VirtualMachineInstance) bool {
	return !isFalse(vmi.Spec.Domain.Devices.AutoattachSerialConsole)
}

// HasGraphics tells whether the guest has a display that VNC connects to.
func HasGraphics(vmi *v1.VirtualMachineInstance) bool {
	return !isFalse(vmi.Spec.Domain.Devices.AutoattachGraphicsDevice)
}

// consoles adds the serial port and the guest agent's channel. QEMU listens on the sockets; the launcher connects to them.
// There is no <log>: that would need a second daemon in the pod, the launcher keeps the log instead.
func (b *builder) consoles() error {
	if HasSerialConsole(b.vmi) {
		b.dom.Devices.Serials = []libvirtxml.DomainSerial{{
			Source: listenUnix(layout.SerialSocket),
			Target: &libvirtxml.DomainSerialTarget{Port: uintPtr(0)},
			Alias:  &libvirtxml.DomainAlias{Name: "ua-serial0"},
		}}
	}
	b.dom.Devices.Channels = []libvirtxml.DomainChannel{{
		Source: listenUnix(layout.AgentSocket),
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"}},
		Alias:  &libvirtxml.DomainAlias{Name: "ua-agent"},
	}}
	return nil
}

func listenUnix(path string) *libvirtxml.DomainChardevSource {
	return &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: path}}
}

// vgaMemory is the display's memory in KiB (contract).
const vgaMemory = 16384

func (b *builder) graphics() error {
	video := b.spec.Devices.Video
	if !HasGraphics(b.vmi) {
		if video != nil && video.Type != "" && video.Type != "none" {
			return invalid(devicesPath().Child("video", "type"), "needs a graphics device; remove autoattachGraphicsDevice: false")
		}
		return nil
	}
	kind := b.arch.video
	if kind == "vga" && b.isEFI() && !b.in.Cluster.VGAForEFI {
		kind = "bochs"
	}
	if video != nil && video.Type != "" {
		kind = video.Type
		if err := oneOf(devicesPath().Child("video", "type"), kind, "vga", "bochs", "virtio", "cirrus", "ramfb", "none"); err != nil {
			return err
		}
		if (kind == "vga" || kind == "bochs" || kind == "cirrus") && !b.arch.x86 {
			return invalid(devicesPath().Child("video", "type"), "%s guests have no %s; use virtio", b.arch.name, kind)
		}
	}
	model := libvirtxml.DomainVideoModel{Type: kind}
	switch kind {
	case "none", "ramfb":
	case "vga":
		model.Heads, model.VRam = 1, vgaMemory
	default:
		model.Heads = 1
	}
	b.dom.Devices.Videos = []libvirtxml.DomainVideo{{Model: model}}
	b.dom.Devices.Graphics = []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{
		Socket:    layout.VNCSocket,
		Listeners: []libvirtxml.DomainGraphicListener{{Socket: &libvirtxml.DomainGraphicListenerSocket{Socket: layout.VNCSocket}}},
	}}}
	return nil
}

func (b *builder) inputs() error {
	inputs := b.spec.Devices.Inputs
	if len(inputs) == 0 && isTrue(b.spec.Devices.AutoattachInputDevice) {
		inputs = []v1.Input{{Name: "default-0", Type: v1.InputTypeTablet, Bus: v1.InputBusUSB}}
		if !b.arch.usb {
			inputs[0].Bus = v1.InputBusVirtio
		}
	}
	if b.arch.name == "aarch64" && HasGraphics(b.vmi) && len(inputs) == 0 {
		// The virt machine has no PS/2: without these its display would be dumb.
		inputs = []v1.Input{
			{Name: "tablet", Type: v1.InputTypeTablet, Bus: v1.InputBusUSB},
			{Name: "keyboard", Type: v1.InputTypeKeyboard, Bus: v1.InputBusUSB},
		}
	}
	for i, spec := range inputs {
		at := devicesPath().Child("inputs").Index(i)
		input := libvirtxml.DomainInput{Type: string(spec.Type), Bus: string(spec.Bus), Alias: &libvirtxml.DomainAlias{Name: "ua-" + spec.Name}}
		if input.Bus == "" {
			input.Bus = string(v1.InputBusUSB)
		}
		if input.Type == "" {
			input.Type = string(v1.InputTypeTablet)
		}
		if err := oneOf(at.Child("type"), input.Type, "tablet", "keyboard"); err != nil {
			return err
		}
		if err := oneOf(at.Child("bus"), input.Bus, "usb", "virtio"); err != nil {
			return err
		}
		if input.Bus == "virtio" {
			input.Model = "virtio" // there is no transitional one
		}
		if input.Bus == string(v1.InputBusUSB) && !b.arch.usb {
			return invalid(at.Child("bus"), "%s guests have no USB; use virtio", b.arch.name)
		}
		b.dom.Devices.Inputs = append(b.dom.Devices.Inputs, input)
	}
	return nil
}
