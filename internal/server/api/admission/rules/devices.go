package rules

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// graphics: a guest without a graphics device has nothing to show on VNC, which is fine; a virtual GPU's display needs one owner.
func graphics(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	displays := 0
	for i, g := range spec.Domain.Devices.GPUs {
		o := g.VirtualGPUOptions
		if o == nil || o.Display == nil || (o.Display.Enabled != nil && !*o.Display.Enabled) {
			continue
		}
		if displays++; displays > 1 {
			c.invalid(below(at, "domain.devices.gpus").Index(i).Child("virtualGPUOptions", "display"),
				"configuring multiple displays with vGPUs is not allowed")
		}
	}
	if a := spec.Domain.Devices.AutoattachVSOCK; a != nil && *a {
		c.gate(below(at, "domain.devices.autoattachVSOCK"), clusterconfig.GateVSOCK, "VSOCK")
	}
	if spec.Domain.Devices.DownwardMetrics != nil {
		c.gate(below(at, "domain.devices.downwardMetrics"), clusterconfig.GateDownwardMetrics, "downwardMetrics virtio serial is not allowed")
	}
}

func inputs(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for i, in := range spec.Domain.Devices.Inputs {
		input := below(at, "domain.devices.inputs").Index(i)
		if in.Bus != "" && in.Bus != v1.InputBusVirtio && in.Bus != v1.InputBusUSB {
			c.invalid(input.Child("bus"), "Input device can have only virtio or usb bus.")
		}
		if in.Type != "" && in.Type != v1.InputTypeTablet && in.Type != v1.InputTypeKeyboard {
			c.invalid(input.Child("type"), "Input device can have only tablet or keyboard type.")
		}
	}
}

func soundAndVideo(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	d := spec.Domain.Devices
	if s := d.Sound; s != nil {
		sound := below(at, "domain.devices.sound")
		if s.Name == "" {
			c.required(sound.Child("name"), "Sound device requires a name field.")
		}
		if s.Model != "" && s.Model != "ich9" && s.Model != "ac97" {
			c.invalid(sound.Child("model"), "Sound device type is not supported. Options: 'ich9' or 'ac97'")
		}
	}
	if v := d.Video; v != nil {
		video := below(at, "domain.devices.video")
		switch spec.Architecture {
		case "arm64", "s390x":
			enum(c, video.Child("type"), v.Type, "virtio", "ramfb")
		default:
			enum(c, video.Child("type"), v.Type, "vga", "bochs", "virtio", "ramfb", "cirrus")
		}
		if a := d.AutoattachGraphicsDevice; a != nil && !*a {
			c.invalid(video, "%s cannot be set when autoattachGraphicsDevice is false", video)
		}
	}
	if t := d.TPM; t != nil && spec.Architecture == "s390x" {
		c.unsupported(below(at, "domain.devices.tpm"), "a TPM is not supported on s390x")
	}
}

func hostDevices(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	devices := below(at, "domain.devices")
	names := map[string]bool{}
	judge := func(at *field.Path, name, device string, claim *v1.ClaimRequest, gate string) {
		switch {
		case name == "":
			c.required(at.Child("name"), "%s must not be empty", at.Child("name"))
		case names[name]:
			c.duplicate(at.Child("name"), "%s %q is used by another device", at.Child("name"), name)
		}
		names[name] = true
		switch {
		case claim == nil && device == "":
			c.required(at.Child("deviceName"), "%s must be set", at.Child("deviceName"))
		case claim != nil && device != "":
			c.invalid(at, "%s must not have both deviceName and a claim", at)
		case claim == nil:
			if problems := validation.IsQualifiedName(device); len(problems) > 0 {
				c.invalid(at.Child("deviceName"), "%s %q is not valid: %s", at.Child("deviceName"), device, strings.Join(problems, ", "))
			}
		default:
			deviceClaim(c, at, claim, gate, spec)
		}
	}
	for i, g := range spec.Domain.Devices.GPUs {
		judge(devices.Child("gpus").Index(i), g.Name, g.DeviceName, g.ClaimRequest, clusterconfig.GateGPUsWithDRA)
	}
	hosts := spec.Domain.Devices.HostDevices
	if len(hosts) > 0 && !c.cluster.Gate(clusterconfig.GateHostDevices) && plainDevices(hosts) {
		c.gate(devices.Child("hostDevices"), clusterconfig.GateHostDevices, "Host Devices feature gate is not enabled in kubevirt-config")
		return
	}
	for i, h := range hosts {
		judge(devices.Child("hostDevices").Index(i), h.Name, h.DeviceName, h.ClaimRequest, clusterconfig.GateHostDevicesWithDRA)
	}
}

func plainDevices(hosts []v1.HostDevice) bool {
	for _, h := range hosts {
		if h.ClaimRequest == nil {
			return true
		}
	}
	return false
}

func deviceClaim(c *Check, at *field.Path, claim *v1.ClaimRequest, gate string, spec *v1.VirtualMachineInstanceSpec) {
	if !c.gate(at, gate, "a device from a resource claim") {
		return
	}
	if claim.ClaimName == "" {
		c.required(at.Child("claimName"), "%s must be set", at.Child("claimName"))
	} else if !hasClaim(spec, claim.ClaimName) {
		c.notFound(at.Child("claimName"), "%s '%s' not found: it must be listed in spec.resourceClaims", at.Child("claimName"), claim.ClaimName)
	}
	if claim.RequestName == "" {
		c.required(at.Child("requestName"), "%s must be set", at.Child("requestName"))
	}
}

func hasClaim(spec *v1.VirtualMachineInstanceSpec, name string) bool {
	for _, r := range spec.ResourceClaims {
		if r.Name == name {
			return true
		}
	}
	return false
}

func resourceClaims(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	names := map[string]bool{}
	for i, r := range spec.ResourceClaims {
		claim := at.Child("resourceClaims").Index(i)
		if problems := validation.IsDNS1123Label(r.Name); len(problems) > 0 {
			c.invalid(claim.Child("name"), "%s %q is not valid: %s", claim.Child("name"), r.Name, strings.Join(problems, ", "))
		}
		if names[r.Name] {
			c.duplicate(claim.Child("name"), "%s %q is given twice", claim.Child("name"), r.Name)
		}
		names[r.Name] = true
		if count(r.ResourceClaimName != nil, r.ResourceClaimTemplateName != nil) != 1 {
			c.invalid(claim, "%s must have exactly one of resourceClaimName and resourceClaimTemplateName", claim)
		}
	}
}

func panicDevices(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	devices := below(at, "domain.devices.panicDevices")
	for i, p := range spec.Domain.Devices.PanicDevices {
		model := devices.Index(i).Child("model")
		switch {
		case p.Model == nil:
			c.required(model, "panic device requires the model field to be specified")
		case spec.Architecture == "s390x":
			c.unsupported(devices, "custom panic devices are not supported on s390x architecture")
		default:
			enum(c, model, *p.Model, v1.Hyperv, v1.Isa, v1.Pvpanic)
		}
		if spec.Architecture == "arm64" && p.Model != nil && *p.Model != v1.Pvpanic {
			c.unsupported(model, "custom panic device model %s is not supported on arm64, use pvpanic", *p.Model)
		}
	}
}

func watchdogs(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	w := spec.Domain.Devices.Watchdog
	if w == nil {
		return
	}
	watchdog := below(at, "domain.devices.watchdog")
	if w.Name == "" {
		c.required(watchdog.Child("name"), "%s must not be empty", watchdog.Child("name"))
	}
	if w.I6300ESB != nil && w.Diag288 != nil {
		c.invalid(watchdog, "%s must have only one device, i6300esb or diag288", watchdog)
	}
	actions := []v1.WatchdogAction{v1.WatchdogActionPoweroff, v1.WatchdogActionReset, v1.WatchdogActionShutdown}
	switch {
	case w.I6300ESB != nil:
		enum(c, watchdog.Child("i6300esb", "action"), w.I6300ESB.Action, actions...)
		if spec.Architecture == "s390x" {
			c.invalid(watchdog, "s390x only supports Diag288 watchdog device")
		}
	case w.Diag288 != nil:
		enum(c, watchdog.Child("diag288", "action"), w.Diag288.Action, actions...)
		if spec.Architecture != "s390x" {
			c.invalid(watchdog, "%s only supports I6300ESB watchdog device", spec.Architecture)
		}
	}
	if spec.Architecture == "arm64" {
		c.invalid(watchdog, "Arm64 not support Watchdog device")
	}
}
