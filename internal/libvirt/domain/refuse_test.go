package domain

import (
	"errors"
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/libvirt/wire"
)

// refusals says for a VirtualMachineInstance's spec.domain (and what is beside it after a line "---") which field the error
// names. A user who is not told the field searches for a night.
var refusals = []struct{ domain, field string }{
	{"memory: {guest: 0}", "spec.domain.memory.guest"},
	{"memory: {guest: 1Gi, maxGuest: 512Mi}", "spec.domain.memory.maxGuest"},
	{"memory: {guest: 1Gi, hugepages: {pageSize: big}}", "spec.domain.memory.hugepages.pageSize"},
	{"memory: {guest: 3Mi, hugepages: {pageSize: 2Mi}}", "spec.domain.memory.guest"},
	{"cpu: {sockets: 4000000000, cores: 4000000000, threads: 4000000000}", "spec.domain.cpu"},
	{"cpu: {sockets: 2, maxSockets: 2000}", "spec.domain.cpu"},
	{"cpu: {features: [{name: x, policy: maybe}]}", "spec.domain.cpu.features[0].policy"},
	{"cpu: {features: [{name: ''}]}", "spec.domain.cpu.features[0].name"},
	{"cpu: {realtime: {}}", "spec.domain.cpu.realtime"},
	{"cpu: {isolateEmulatorThread: true}", "spec.domain.cpu.isolateEmulatorThread"},
	{"cpu: {numa: {guestMappingPassthrough: {}}}", "spec.domain.cpu.numa.guestMappingPassthrough"},
	{"cpu: {dedicatedCpuPlacement: true}", "spec.domain.cpu.dedicatedCpuPlacement"},
	{"machine: {type: pc-i440fx}", "spec.domain.machine.type"},
	{"firmware: {uuid: no}", "spec.domain.firmware.uuid"},
	{"firmware: {bootloader: {efi: {}}}", "spec.domain.firmware.bootloader.efi.secureBoot"},
	{"firmware: {bootloader: {efi: {}, bios: {}}}", "spec.domain.firmware.bootloader"},
	{"firmware: {bootloader: {efi: {secureBoot: false, persistent: true}}}", "spec.domain.firmware.bootloader.efi.persistent"},
	{"firmware: {kernelBoot: {kernelArgs: quiet}}", "spec.domain.firmware.kernelBoot.kernelArgs"},
	{"firmware: {kernelBoot: {container: {image: x}}}", "spec.domain.firmware.kernelBoot.container"},
	{"firmware: {acpi: {slicNameRef: none}}", "spec.domain.firmware.acpi.slicNameRef"},
	{"features: {hyperv: {spinlocks: {spinlocks: 1}}}", "spec.domain.features.hyperv.spinlocks.spinlocks"},
	{"features: {hyperv: {vendorid: {vendorid: abcdefghijklmn}}}", "spec.domain.features.hyperv.vendorid.vendorid"},
	{"features: {hyperv: {}, hypervPassthrough: {}}", "spec.domain.features.hypervPassthrough"},
	{"clock: {utc: {}, timezone: UTC}", "spec.domain.clock"},
	{"clock: {timer: {rtc: {tickPolicy: never}}}", "spec.domain.clock.timer.rtc.tickPolicy"},
	{"clock: {timer: {rtc: {track: moon}}}", "spec.domain.clock.timer.rtc.track"},
	{"clock: {timer: {pit: {tickPolicy: never}}}", "spec.domain.clock.timer.pit.tickPolicy"},
	{"clock: {timer: {hpet: {tickPolicy: never}}}", "spec.domain.clock.timer.hpet.tickPolicy"},
	{"rebootPolicy: Sometimes", "spec.domain.rebootPolicy"},
	{"ioThreadsPolicy: many", "spec.domain.ioThreadsPolicy"},
	{"ioThreadsPolicy: supplementalPool", "spec.domain.ioThreads.supplementalPoolThreadCount"},
	{"ioThreadsPolicy: supplementalPool\nioThreads: {supplementalPoolThreadCount: 4000000000}", "spec.domain.ioThreads.supplementalPoolThreadCount"},
	{"launchSecurity: {sev: {}}", "spec.domain.launchSecurity"},
	{"devices: {filesystems: [{name: a, virtiofs: {}}]}", "spec.domain.devices.filesystems[0]"},
	{"devices: {downwardMetrics: {}}", "spec.domain.devices.downwardMetrics"},
	{"devices: {inputs: [{name: a, type: pedal, bus: usb}]}", "spec.domain.devices.inputs[0].type"},
	{"devices: {inputs: [{name: a, type: tablet, bus: ps2}]}", "spec.domain.devices.inputs[0].bus"},
	{"devices: {sound: {name: a, model: sb16}}", "spec.domain.devices.sound.model"},
	{"devices: {video: {type: cga}}", "spec.domain.devices.video.type"},
	{"devices: {autoattachGraphicsDevice: false, video: {type: vga}}", "spec.domain.devices.video.type"},
	{"devices: {watchdog: {name: a, i6300esb: {action: bark}}}", "spec.domain.devices.watchdog.i6300esb.action"},
	{"devices: {watchdog: {name: a, diag288: {}}}", "spec.domain.devices.watchdog.diag288"},
	{"devices: {watchdog: {name: a, i6300esb: {}, diag288: {}}}", "spec.domain.devices.watchdog"},
	{"devices: {tpm: {persistent: true}}", "spec.domain.devices.tpm.persistent"},
	{"devices: {autoattachVSOCK: true}", "spec.domain.devices.autoattachVSOCK"},
	{"devices: {panicDevices: [{model: button}]}", "spec.domain.devices.panicDevices[0].model"},
	{"devices: {gpus: [{name: a}]}", "spec.domain.devices.gpus[0].name"},
	{"devices: {hostDevices: [{name: a}]}", "spec.domain.devices.hostDevices[0].name"},
	{"devices: {disks: [{name: a, disk: {}}]}", "spec.domain.devices.disks[0].name"},
	{"devices: {disks: [{name: v, disk: {bus: ide}}]}", "spec.domain.devices.disks[0].disk.bus"},
	{"devices: {disks: [{name: v, disk: {bus: sata, readonly: true}}]}", "spec.domain.devices.disks[0].disk.readonly"},
	{"devices: {disks: [{name: v, disk: {bus: sata, pciAddress: '0000:01:00.0'}}]}", "spec.domain.devices.disks[0].disk.pciAddress"},
	{"devices: {disks: [{name: v, disk: {bus: virtio, pciAddress: '1:2'}}]}", "spec.domain.devices.disks[0].disk.pciAddress"},
	{"devices: {disks: [{name: v, cdrom: {bus: virtio}}]}", "spec.domain.devices.disks[0].cdrom.bus"},
	{"devices: {disks: [{name: v, cdrom: {bus: sata, tray: ajar}}]}", "spec.domain.devices.disks[0].cdrom.tray"},
	{"devices: {disks: [{name: v, cdrom: {bus: sata, readonly: false}}]}", "spec.domain.devices.disks[0].cdrom.readonly"},
	{"devices: {disks: [{name: v, lun: {bus: scsi}}]}", "spec.domain.devices.disks[0].lun"},
	{"devices: {disks: [{name: v, lun: {bus: scsi, reservation: true}}]}", "spec.domain.devices.disks[0].lun.reservation"},
	{"devices: {disks: [{name: v, bootOrder: 0, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].bootOrder"},
	{"devices: {disks: [{name: v, cache: warm, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].cache"},
	{"devices: {disks: [{name: v, io: smoke, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].io"},
	{"devices: {disks: [{name: v, cache: writeback, io: native, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].io"},
	{"devices: {disks: [{name: v, shareable: true, cache: writeback, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].cache"},
	{"devices: {disks: [{name: v, shareable: true, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].shareable"},
	{"devices: {disks: [{name: v, errorPolicy: weep, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].errorPolicy"},
	{"devices: {disks: [{name: v, blockSize: {matchVolume: {}}, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].blockSize.matchVolume"},
	{"devices: {disks: [{name: v, blockSize: {custom: {}}, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].blockSize.custom"},
	{"devices: {disks: [{name: v, changedBlockTracking: true, disk: {bus: virtio}}]}", "spec.domain.devices.disks[0].changedBlockTracking"},
	{"devices: {interfaces: [{name: none, masquerade: {}}]}", "spec.domain.devices.interfaces[0].name"},
	{"devices: {interfaces: [{name: net, slirp: {}}]}", "spec.domain.devices.interfaces[0]"},
	{"devices: {interfaces: [{name: net, binding: {name: x}}]}", "spec.domain.devices.interfaces[0].binding"},
	{"devices: {interfaces: [{name: net, sriov: {}}]}", "spec.domain.devices.interfaces[0].name"},
	{"devices: {interfaces: [{name: net, masquerade: {}, model: ne1000}]}", "spec.domain.devices.interfaces[0].model"},
	{"devices: {interfaces: [{name: net, passtBinding: {}, model: e1000}]}", "spec.domain.devices.interfaces[0].model"},
	{"devices: {interfaces: [{name: net, passtBinding: {}, ports: [{port: 0}]}]}", "spec.domain.devices.interfaces[0].ports[0].port"},
	{"devices: {interfaces: [{name: net, masquerade: {}, macAddress: xyz}]}", "spec.domain.devices.interfaces[0].macAddress"},
	{"devices: {interfaces: [{name: net, masquerade: {}, bootOrder: 0}]}", "spec.domain.devices.interfaces[0].bootOrder"},
	{"devices: {interfaces: [{name: net, masquerade: {}, state: sideways}]}", "spec.domain.devices.interfaces[0].state"},
	{"devices: {interfaces: [{name: net, masquerade: {}, acpiIndex: -1}]}", "spec.domain.devices.interfaces[0].acpiIndex"},
	{"devices: {interfaces: [{name: net, masquerade: {}, pciAddress: x}]}", "spec.domain.devices.interfaces[0].pciAddress"},
	{"{}\n---\narchitecture: vax", "spec.architecture"},
	{"{}\n---\narchitecture: arm64", "spec.architecture"},
}

func refusedVMI(t *testing.T, doc string) *v1.VirtualMachineInstance {
	t.Helper()
	doc, beside, _ := strings.Cut(doc, "\n---\n")
	vmi := &v1.VirtualMachineInstance{}
	vmi.Name, vmi.Namespace = "vm", "default"
	if err := yaml.UnmarshalStrict([]byte("memory: {guest: 1Gi}"), &vmi.Spec.Domain); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict([]byte(doc), &vmi.Spec.Domain); err != nil {
		t.Fatal(err)
	}
	if beside != "" {
		vmi.Spec.Architecture = strings.TrimPrefix(beside, "architecture: ")
	}
	vmi.Spec.Networks = []v1.Network{{Name: "net", NetworkSource: v1.NetworkSource{Pod: &v1.PodNetwork{}}}}
	vmi.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{ContainerDisk: &v1.ContainerDiskSource{Image: "x"}}}}
	return vmi
}

func TestConvertRefuses(t *testing.T) {
	for _, test := range refusals {
		t.Run(test.field+" "+test.domain, func(t *testing.T) {
			in := Input{
				Host:       Host{KVM: true},
				Disks:      map[string]wire.DiskFacts{"v": {Name: "v", Path: "/disk", Format: "qcow2", DirectIO: true}},
				Interfaces: map[string]Interface{"net": {Tap: "tap0"}},
			}
			_, err := Convert(refusedVMI(t, test.domain), in)
			var refused *FieldError
			if !errors.As(err, &refused) || refused.Field != test.field {
				t.Errorf("error %v, want one about %s", err, test.field)
			}
		})
	}
}

// An image format nobody prepared must never reach QEMU, whose drivers for exotic ones have a history.
func TestConvertRefusesFacts(t *testing.T) {
	vmi := refusedVMI(t, "devices: {disks: [{name: v, cache: none, disk: {bus: virtio}}], interfaces: [{name: net, masquerade: {}}]}")
	good := Input{
		Disks:      map[string]wire.DiskFacts{"v": {Name: "v", Path: "/disk", Format: "raw", DirectIO: true}},
		Interfaces: map[string]Interface{"net": {Tap: "tap0"}},
	}
	if _, err := Convert(vmi, good); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(*Input)
		field  string
	}{
		"format":       {func(in *Input) { in.Disks["v"] = wire.DiskFacts{Path: "/disk", Format: "vmdk"} }, "spec.domain.devices.disks[0].name"},
		"no direct IO": {func(in *Input) { in.Disks["v"] = wire.DiskFacts{Path: "/disk", Format: "raw"} }, "spec.domain.devices.disks[0].cache"},
		"not prepared": {func(in *Input) { in.Disks = nil }, "spec.domain.devices.disks[0].name"},
		"no link":      {func(in *Input) { in.Interfaces = nil }, "spec.domain.devices.interfaces[0].name"},
		"no tap":       {func(in *Input) { in.Interfaces["net"] = Interface{} }, "spec.domain.devices.interfaces[0].name"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in := good
			in.Interfaces = map[string]Interface{"net": {Tap: "tap0"}}
			in.Disks = map[string]wire.DiskFacts{"v": good.Disks["v"]}
			test.change(&in)
			var refused *FieldError
			if _, err := Convert(vmi, in); !errors.As(err, &refused) || refused.Field != test.field {
				t.Errorf("error %v, want one about %s", err, test.field)
			}
		})
	}
}
