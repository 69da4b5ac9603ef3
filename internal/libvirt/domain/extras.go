package domain

import (
	"strconv"

	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"

	"virtctl/internal/libvirt/layout"
)

// defaultStatsPeriod is how often the balloon reports memory, in seconds (contract).
const defaultStatsPeriod = 10

// extras adds the smaller devices.
func (b *builder) extras() error {
	b.memBalloon()
	if b.spec.Devices.Rng != nil {
		b.dom.Devices.RNGs = []libvirtxml.DomainRNG{{
			Model:   b.virtio(),
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
		}}
	}
	for _, add := range []func() error{b.watchdog, b.tpm, b.sound, b.vsock, b.panicDevices, b.clientUSB} {
		if err := add(); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) memBalloon() {
	if isFalse(b.spec.Devices.AutoattachMemBalloon) {
		b.dom.Devices.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "none"}
		return
	}
	balloon := &libvirtxml.DomainMemBalloon{Model: b.virtio()}
	period := uint32(defaultStatsPeriod)
	if b.in.Cluster.MemBalloonStatsPeriod != nil {
		period = *b.in.Cluster.MemBalloonStatsPeriod
	}
	if period > 0 {
		balloon.Stats = &libvirtxml.DomainMemBalloonStats{Period: uint(period)}
	}
	// Giving pages back is for guests that share their node; those with memory of their own keep it. What was given back is not sent
	// when the guest moves either.
	if !b.in.Cluster.DisableFreePageReporting && !b.vmi.IsHighPerformanceVMI() &&
		b.vmi.Annotations[v1.FreePageReportingDisabledAnnotation] != "true" {
		balloon.FreePageReporting = "on"
	}
	b.dom.Devices.MemBalloon = balloon
}

func (b *builder) watchdog() error {
	spec := b.spec.Devices.Watchdog
	if spec == nil {
		return nil
	}
	at := devicesPath().Child("watchdog")
	model, action, exists := "i6300esb", v1.WatchdogActionReset, b.arch.watchdogI6300ESB
	switch {
	case spec.I6300ESB != nil && spec.Diag288 != nil:
		return invalid(at, "i6300esb and diag288 exclude each other")
	case spec.I6300ESB != nil && spec.I6300ESB.Action != "":
		action = spec.I6300ESB.Action
	case spec.Diag288 != nil:
		model, exists = "diag288", b.arch.watchdogDiag288
		if spec.Diag288.Action != "" {
			action = spec.Diag288.Action
		}
	}
	if !exists {
		return invalid(at.Child(model), "%s guests have no such watchdog", b.arch.name)
	}
	if err := oneOf(at.Child(model, "action"), string(action), "poweroff", "reset", "shutdown"); err != nil {
		return err
	}
	b.dom.Devices.Watchdogs = []libvirtxml.DomainWatchdog{{
		Model: model, Action: string(action), Alias: &libvirtxml.DomainAlias{Name: "ua-" + spec.Name},
	}}
	return nil
}

func (b *builder) tpm() error {
	spec := b.spec.Devices.TPM
	if spec == nil || isFalse(spec.Enabled) {
		return nil
	}
	at := devicesPath().Child("tpm")
	if !b.arch.tpm {
		return invalid(at, "%s guests have no TPM", b.arch.name)
	}
	tpm := libvirtxml.DomainTPM{
		Model:   "tpm-tis",
		Backend: &libvirtxml.DomainTPMBackend{Emulator: &libvirtxml.DomainTPMBackendEmulator{Version: "2.0"}},
	}
	if isTrue(spec.Persistent) {
		if !b.in.StateClaim {
			return invalid(at.Child("persistent"), "the pod has no claim for the VM's state; set vmStateStorageClass in the KubeVirt object")
		}
		if b.arch.x86 {
			tpm.Model = "tpm-crb"
		}
		tpm.Backend.Emulator.PersistentState = "yes"
	}
	b.dom.Devices.TPMs = []libvirtxml.DomainTPM{tpm}
	return nil
}

func (b *builder) sound() error {
	spec := b.spec.Devices.Sound
	if spec == nil {
		return nil
	}
	model := spec.Model
	if model == "" {
		model = "ich9"
	}
	if err := oneOf(devicesPath().Child("sound", "model"), model, "ich9", "ac97"); err != nil {
		return err
	}
	if !b.arch.sound {
		return invalid(devicesPath().Child("sound"), "%s guests have no sound device", b.arch.name)
	}
	b.dom.Devices.Sounds = []libvirtxml.DomainSound{{Model: model, Alias: &libvirtxml.DomainAlias{Name: "ua-" + spec.Name}}}
	// Nobody listens in the pod.
	b.dom.Devices.Audios = []libvirtxml.DomainAudio{{ID: 1, None: &libvirtxml.DomainAudioNone{}}}
	return nil
}

func (b *builder) vsock() error {
	if !isTrue(b.spec.Devices.AutoattachVSOCK) {
		return nil
	}
	if b.vmi.Status.VSOCKCID == nil {
		return invalid(devicesPath().Child("autoattachVSOCK"), "the object has no VSOCK context ID yet; virt-controller assigns it")
	}
	b.dom.Devices.VSock = &libvirtxml.DomainVSock{
		Model: b.virtio(),
		CID:   &libvirtxml.DomainVSockCID{Auto: "no", Address: strconv.FormatUint(uint64(*b.vmi.Status.VSOCKCID), 10)},
	}
	return nil
}

func (b *builder) panicDevices() error {
	for i, spec := range b.spec.Devices.PanicDevices {
		device := libvirtxml.DomainPanic{}
		if spec.Model != nil {
			at := devicesPath().Child("panicDevices").Index(i).Child("model")
			device.Model = string(*spec.Model)
			if err := oneOf(at, device.Model, "hyperv", "isa", "pvpanic"); err != nil {
				return err
			}
			if !b.arch.x86 && device.Model != "pvpanic" {
				return invalid(at, "%s guests have no such device; use pvpanic", b.arch.name)
			}
		}
		b.dom.Devices.Panics = append(b.dom.Devices.Panics, device)
	}
	return nil
}

// clientUSB adds a place for each USB device that clients may pass to the guest at the same time.
func (b *builder) clientUSB() error {
	if b.spec.Devices.ClientPassthrough == nil {
		return nil
	}
	for slot := range layout.USBSlots {
		b.dom.Devices.RedirDevs = append(b.dom.Devices.RedirDevs, libvirtxml.DomainRedirDev{
			Bus: "usb", Source: listenUnix(layout.USBSocket(slot)), Alias: &libvirtxml.DomainAlias{Name: "ua-usbredir" + strconv.Itoa(slot)},
		})
	}
	return nil
}
