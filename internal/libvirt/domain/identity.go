package domain

import (
	"bytes"
	"encoding/xml"

	"github.com/google/uuid"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// legacyUUIDSpace is the name space of UUIDs for objects that carry none (contract: guests keep the UUID they had).
const legacyUUIDSpace = "6a1a24a1-4061-4607-8bf4-a3963d0c5895"

// Name is the domain's name.
func Name(vmi *v1.VirtualMachineInstance) string { return vmi.Namespace + "_" + vmi.Name }

// UUID is the domain's UUID, which guests see in SMBIOS: the firmware's, else one made from the object's name.
func UUID(vmi *v1.VirtualMachineInstance) string {
	if firmware := vmi.Spec.Domain.Firmware; firmware != nil && firmware.UUID != "" {
		return string(firmware.UUID)
	}
	return uuid.NewSHA1(uuid.MustParse(legacyUUIDSpace), []byte(vmi.Name)).String()
}

func (b *builder) identity() error {
	b.dom.Type = "qemu"
	if b.in.Host.KVM {
		b.dom.Type = "kvm"
	}
	b.dom.Name, b.dom.UUID = Name(b.vmi), UUID(b.vmi)
	if _, err := uuid.Parse(b.dom.UUID); err != nil {
		return invalid(domainPath().Child("firmware", "uuid"), "%q is not a UUID", b.dom.UUID)
	}
	var uid bytes.Buffer
	if err := xml.EscapeText(&uid, []byte(b.vmi.UID)); err != nil {
		return invalid(annotationPath("uid"), "cannot be written as XML: %v", err)
	}
	// Who finds the domain later can tell which object it belongs to.
	b.dom.Metadata = &libvirtxml.DomainMetadata{
		XML: `<kubevirt:kubevirt xmlns:kubevirt="http://kubevirt.io"><kubevirt:uid>` + uid.String() + `</kubevirt:uid></kubevirt:kubevirt>`,
	}
	return b.sysinfo()
}

// sysinfo fills SMBIOS tables and fw_cfg.
func (b *builder) sysinfo() error {
	if ignition := b.vmi.Annotations[v1.IgnitionAnnotation]; ignition != "" {
		if !b.arch.smbios {
			return invalid(annotationPath(v1.IgnitionAnnotation), "%s guests cannot read it; use cloudInitConfigDrive", b.arch.name)
		}
		b.dom.SysInfo = append(b.dom.SysInfo, libvirtxml.DomainSysInfo{FWCfg: &libvirtxml.DomainSysInfoFWCfg{
			Entry: []libvirtxml.DomainSysInfoEntry{{Name: "opt/com.coreos/config", Value: ignition}},
		}})
	}
	if !b.arch.smbios {
		if b.spec.Chassis != nil {
			return invalid(domainPath().Child("chassis"), "%s guests have no SMBIOS; remove the field", b.arch.name)
		}
		return nil
	}
	smbios := b.in.Cluster.SMBIOS.withDefaults()
	system := []libvirtxml.DomainSysInfoEntry{}
	add := func(list *[]libvirtxml.DomainSysInfoEntry, name, value string) {
		if value != "" {
			*list = append(*list, libvirtxml.DomainSysInfoEntry{Name: name, Value: value})
		}
	}
	add(&system, "uuid", b.dom.UUID)
	if b.spec.Firmware != nil {
		add(&system, "serial", b.spec.Firmware.Serial)
	}
	add(&system, "manufacturer", smbios.Manufacturer)
	add(&system, "family", smbios.Family)
	add(&system, "product", smbios.Product)
	add(&system, "sku", smbios.SKU)
	add(&system, "version", smbios.Version)
	info := &libvirtxml.DomainSysInfoSMBIOS{System: &libvirtxml.DomainSysInfoSystem{Entry: system}}
	if chassis := b.spec.Chassis; chassis != nil {
		var entries []libvirtxml.DomainSysInfoEntry
		add(&entries, "manufacturer", chassis.Manufacturer)
		add(&entries, "version", chassis.Version)
		add(&entries, "serial", chassis.Serial)
		add(&entries, "asset", chassis.Asset)
		add(&entries, "sku", chassis.Sku)
		if len(entries) > 0 {
			info.Chassis = &libvirtxml.DomainSysInfoChassis{Entry: entries}
		}
	}
	b.dom.SysInfo = append(b.dom.SysInfo, libvirtxml.DomainSysInfo{SMBIOS: info})
	return nil
}
