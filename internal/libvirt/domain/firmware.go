package domain

import (
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"

	"virtctl/internal/libvirt/layout"
)

// pausedBootMenu gives whoever unpauses a guest time to reach its boot menu, in milliseconds (contract).
const pausedBootMenu = "10000"

func (b *builder) firmware() error {
	machine := b.in.Cluster.MachineType
	if b.spec.Machine != nil && b.spec.Machine.Type != "" {
		machine = b.spec.Machine.Type
	}
	if machine == "" {
		machine = b.arch.machine
	}
	if !strings.Contains(machine, strings.SplitN(b.arch.machine, "-", 2)[0]) {
		return invalid(domainPath().Child("machine", "type"), "%q is not a machine type of %s guests, use %s", machine, b.arch.name, b.arch.machine)
	}
	b.dom.OS = &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: b.arch.name, Machine: machine, Type: "hvm"}}
	if b.arch.smbios {
		b.dom.OS.SMBios = &libvirtxml.DomainSMBios{Mode: "sysinfo"}
	}
	if b.vmi.ShouldStartPaused() {
		b.dom.OS.BootMenu = &libvirtxml.DomainBootMenu{Enable: "yes", Timeout: pausedBootMenu}
	}
	if err := b.bootloader(); err != nil {
		return err
	}
	if err := b.acpiTables(); err != nil {
		return err
	}
	return b.kernelBoot()
}

func (b *builder) bootloader() error {
	var loader *v1.Bootloader
	if b.spec.Firmware != nil {
		loader = b.spec.Firmware.Bootloader
	}
	at := domainPath().Child("firmware", "bootloader")
	switch {
	case loader != nil && loader.EFI != nil && loader.BIOS != nil:
		return invalid(at, "efi and bios exclude each other")
	case loader != nil && loader.EFI != nil:
		return b.efi(loader.EFI, at.Child("efi"))
	case b.arch.efiOnly:
		off := false
		return b.efi(&v1.EFI{SecureBoot: &off}, at.Child("efi"))
	case loader != nil && loader.BIOS != nil && isTrue(loader.BIOS.UseSerial):
		if !b.arch.x86 {
			return invalid(at.Child("bios", "useSerial"), "%s guests have no BIOS", b.arch.name)
		}
		b.dom.OS.BIOS = &libvirtxml.DomainBIOS{UseSerial: "yes"}
	}
	return nil
}

func (b *builder) efi(efi *v1.EFI, at *field.Path) error {
	firmware := b.in.Host.Firmware
	if firmware == (Firmware{}) {
		firmware = DebianFirmware(b.in.Host.Arch)
	}
	secure := !isFalse(efi.SecureBoot) // the contract's default is on
	code, vars := firmware.Code, firmware.Vars
	if secure {
		code, vars = firmware.SecureCode, firmware.SecureVars
		if b.arch.x86 && (b.spec.Features == nil || !enabled(b.spec.Features.SMM)) {
			return invalid(at.Child("secureBoot"), "Secure Boot needs features.smm; enable it or set secureBoot: false")
		}
	}
	if b.arch.name == "s390x" || code == "" || vars == "" {
		return invalid(at, "there is no such firmware for %s guests in the launcher image", b.arch.name)
	}
	if isTrue(efi.Persistent) && !b.in.StateClaim {
		return invalid(at.Child("persistent"), "the pod has no claim for the VM's state; set vmStateStorageClass in the KubeVirt object")
	}
	b.dom.OS.Loader = &libvirtxml.DomainLoader{Path: code, Readonly: "yes", Secure: yesNo(secure), Type: "pflash"}
	b.dom.OS.NVRam = &libvirtxml.DomainNVRam{NVRam: path.Join(layout.NVRAMDir, b.vmi.Name+"_VARS.fd"), Template: vars}
	return nil
}

// isEFI tells whether UEFI firmware boots the guest.
func (b *builder) isEFI() bool { return b.dom.OS.Loader != nil }

func kernelBootOf(vmi *v1.VirtualMachineInstance) *v1.KernelBoot {
	if vmi.Spec.Domain.Firmware == nil {
		return nil
	}
	return vmi.Spec.Domain.Firmware.KernelBoot
}

func (b *builder) kernelBoot() error {
	boot := kernelBootOf(b.vmi)
	if boot == nil {
		return nil
	}
	at := domainPath().Child("firmware", "kernelBoot")
	if container := boot.Container; container != nil {
		if container.KernelPath == "" && container.InitrdPath == "" {
			return invalid(at.Child("container"), "needs kernelPath or initrdPath")
		}
		if container.KernelPath != "" {
			b.dom.OS.Kernel = kernelBootFile(container.KernelPath)
		}
		if container.InitrdPath != "" {
			b.dom.OS.Initrd = kernelBootFile(container.InitrdPath)
		}
	}
	if boot.KernelArgs != "" && b.dom.OS.Kernel == "" {
		return invalid(at.Child("kernelArgs"), "arguments need a kernel; set container.kernelPath")
	}
	b.dom.OS.Cmdline = boot.KernelArgs
	return nil
}

// acpiTables adds the licence tables of Windows, taken from Secret volumes.
func (b *builder) acpiTables() error {
	if b.spec.Firmware == nil || b.spec.Firmware.ACPI == nil {
		return nil
	}
	at := domainPath().Child("firmware", "acpi")
	tables := []struct{ field, kind, volume string }{
		{"slicNameRef", "slic", b.spec.Firmware.ACPI.SlicNameRef},
		{"msdmNameRef", "msdm", b.spec.Firmware.ACPI.MsdmNameRef},
	}
	index := volumesByName(b.vmi)
	acpi := &libvirtxml.DomainACPI{}
	for _, table := range tables {
		if table.volume == "" {
			continue
		}
		i, ok := index[table.volume]
		if !ok || b.vmi.Spec.Volumes[i].Secret == nil {
			return invalid(at.Child(table.field), "no secret volume is named %q", table.volume)
		}
		acpi.Tables = append(acpi.Tables, libvirtxml.DomainACPITable{
			Type: table.kind, Path: path.Join(layout.Projected(layout.Secret, table.volume), table.kind+".bin"),
		})
	}
	if len(acpi.Tables) > 0 {
		b.dom.OS.ACPI = acpi
	}
	return nil
}
