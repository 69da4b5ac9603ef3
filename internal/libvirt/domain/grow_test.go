package domain

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
)

func growing(guest string) *v1.VirtualMachineInstance {
	vmi := &v1.VirtualMachineInstance{}
	now, boot, most := resource.MustParse(guest), resource.MustParse("1Gi"), resource.MustParse("4Gi")
	vmi.Spec.Domain.Memory = &v1.Memory{Guest: &now, MaxGuest: &most}
	vmi.Status.Memory = &v1.MemoryStatus{GuestAtBoot: &boot}
	return vmi
}

const memoryDoc = `<domain type="qemu"><devices><memory model="virtio-mem"><target><size unit="KiB">3145728</size><node>0</node>` +
	`<block unit="KiB">2048</block><requested unit="KiB">0</requested><current unit="KiB">0</current></target>` +
	`<alias name="ua-virtiomem"></alias></memory></devices></domain>`

// More memory in the VM must become a larger request, in whole blocks and within the device.
func TestMemoryDevice(t *testing.T) {
	for guest, want := range map[string]string{"2Gi": `<requested unit="b">1073741824</requested>`, "1Gi": "", "9Gi": `<requested unit="b">3221225472</requested>`} {
		out, err := MemoryDevice(memoryDoc, growing(guest))
		if err != nil || (want == "") != (out == "") || !strings.Contains(out, want) {
			t.Errorf("%s: %q, %v", guest, out, err)
		}
	}
	if out, err := MemoryDevice(`<domain type="qemu"><devices></devices></domain>`, growing("2Gi")); out != "" || err != nil {
		t.Errorf("a guest that cannot grow: %q, %v", out, err)
	}
	if _, err := MemoryDevice("<", growing("2Gi")); err == nil {
		t.Error("no document")
	}
}

func TestLinkState(t *testing.T) {
	vmi := &v1.VirtualMachineInstance{}
	vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{{Name: "a", State: v1.InterfaceStateLinkDown}, {Name: "b"}, {Name: "c", State: v1.InterfaceStateLinkUp}}
	doc := `<domain type="qemu"><devices><interface type="ethernet"><target dev="tap0" managed="no"></target><alias name="ua-a"></alias></interface>` +
		`<interface type="ethernet"><alias name="ua-b"></alias></interface>` +
		`<interface type="ethernet"><link state="down"></link><alias name="ua-c"></alias></interface></devices></domain>`
	out, err := LinkState(doc, vmi)
	if err != nil || len(out) != 2 || !strings.Contains(out[0], `<link state="down">`) || !strings.Contains(out[0], "tap0") || !strings.Contains(out[1], `<link state="up">`) {
		t.Errorf("%q, %v", out, err)
	}
}

// What a plugged disk is pulled out by, and an emptied drive.
func TestDiskOf(t *testing.T) {
	doc := `<domain type="qemu"><devices><disk type="file" device="disk"><target dev="sda" bus="scsi"></target><alias name="ua-data"></alias></disk></devices></domain>`
	if out, err := DiskOf(doc, "data"); err != nil || !strings.Contains(out, `dev="sda"`) {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := DiskOf(doc, "other"); err == nil {
		t.Error("a disk that is not there was found")
	}
	const drive = `<domain type="qemu"><devices><disk type="file" device="cdrom"><driver name="qemu" type="raw" cache="none"></driver>` +
		`<source index="2"></source><target dev="sda" bus="sata"></target><readonly></readonly><alias name="ua-cd"></alias></disk></devices></domain>`
	if out, err := Medium(drive, "cd", nil); err != nil || strings.Contains(out, "<source") || !strings.Contains(out, `cache="none"`) {
		t.Errorf("taken out: %q, %v", out, err)
	}
	if out, err := Medium(drive, "cd", &wire.DiskFacts{Path: "/x.img"}); err != nil || !strings.Contains(out, `<source file="/x.img">`) || !strings.Contains(out, `cache="none"`) {
		t.Errorf("put in: %q, %v", out, err)
	}
	if out, err := Medium(drive, "cd", &wire.DiskFacts{Path: "/dev/x", Block: true}); err != nil || !strings.Contains(out, `type="block"`) {
		t.Errorf("a device put in: %q, %v", out, err)
	}
}
