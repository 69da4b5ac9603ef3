package domain

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	k8sv1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/libvirt/wire"
)

func vmiOf(t testing.TB, spec string) *v1.VirtualMachineInstance {
	t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	vmi.Name, vmi.Namespace = "vm", "default"
	if err := yaml.UnmarshalStrict([]byte(spec), &vmi.Spec); err != nil {
		t.Fatal(err)
	}
	return vmi
}

func TestDisksRefuses(t *testing.T) {
	const disk = "domain: {devices: {disks: [{name: v, disk: {bus: virtio}}]}}\n"
	tests := []struct{ volumes, field string }{
		{"volumes: []", "spec.domain.devices.disks[0].name"},
		{"volumes: [{name: v}]", "spec.volumes[0]"},
		{"volumes: [{name: v, emptyDisk: {capacity: 0}}]", "spec.volumes[0].emptyDisk.capacity"},
		{"volumes: [{name: v, hostDisk: {path: relative, type: Disk}}]", "spec.volumes[0].hostDisk.path"},
		{"volumes: [{name: v, hostDisk: {path: /a/.., type: Disk}}]", "spec.volumes[0].hostDisk.path"},
		{"volumes: [{name: v, hostDisk: {path: /a/b, type: Tape}}]", "spec.volumes[0].hostDisk.type"},
		{"volumes: [{name: v, hostDisk: {path: /a/b, type: DiskOrCreate}}]", "spec.volumes[0].hostDisk.capacity"},
		{"volumes: [{name: v, downwardMetrics: {}}]", "spec.volumes[0].downwardMetrics"},
		{"volumes: [{name: v, memoryDump: {claimName: x}}]", "spec.volumes[0].memoryDump"},
		{"volumes: [{name: v, containerPath: {path: /x}}]", "spec.volumes[0].containerPath"},
		{"volumes: [{name: v, configMap: {name: x, volumeLabel: " + strings.Repeat("l", 33) + "}}]", "spec.volumes[0]"},
	}
	for _, test := range tests {
		t.Run(test.volumes, func(t *testing.T) {
			var refused *FieldError
			if _, err := Disks(vmiOf(t, disk+test.volumes), DiskOptions{AllowHostDisk: true}); !errors.As(err, &refused) || refused.Field != test.field {
				t.Errorf("error %v, want one about %s", err, test.field)
			}
		})
	}
}

// A host disk gives the guest a file of the node: only the cluster's administrator may allow that.
func TestDisksHostDiskGate(t *testing.T) {
	vmi := vmiOf(t, "domain: {devices: {disks: [{name: v, disk: {}}]}}\nvolumes: [{name: v, hostDisk: {path: /a/b, type: Disk}}]")
	if _, err := Disks(vmi, DiskOptions{}); err == nil || !strings.Contains(err.Error(), "HostDisk") {
		t.Errorf("error %v, want one that names the feature gate", err)
	}
}

func TestDisksOptions(t *testing.T) {
	vmi := vmiOf(t, `
domain: {devices: {disks: [{name: a, disk: {}}, {name: drive, cdrom: {}}]}}
volumes: [{name: a, persistentVolumeClaim: {claimName: a}}]`)
	specs, err := Disks(vmi, DiskOptions{BlockVolumes: map[string]bool{"a": true}, MaxVirtualSizes: map[string]int64{"a": 7}})
	if err != nil {
		t.Fatal(err)
	}
	if len(specs) != 1 || specs[0].Kind != wire.DiskBlock || specs[0].Source != "/dev/a" || specs[0].MaxVirtualSize != 7 {
		t.Errorf("specs %+v", specs)
	}
}

func TestHotplugDisk(t *testing.T) {
	vmi := vmiOf(t, `
domain: {devices: {}}
volumes:
- {name: file, persistentVolumeClaim: {claimName: a, hotpluggable: true}}
- {name: block, dataVolume: {name: b, hotpluggable: true}}
- {name: fixed, dataVolume: {name: c}}`)
	opts := DiskOptions{BlockVolumes: map[string]bool{"block": true}}
	for volume, want := range map[string]wire.DiskSpec{
		"file":  {Name: "file", Kind: wire.DiskFile, Source: "/var/run/kubevirt/hotplug-disks/file.img"},
		"block": {Name: "block", Kind: wire.DiskBlock, Source: "/var/run/kubevirt/hotplug-disks/block"},
	} {
		got, err := HotplugDisk(vmi, volume, opts)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, %v", volume, got, err)
		}
	}
	for _, volume := range []string{"fixed", "none"} {
		if _, err := HotplugDisk(vmi, volume, opts); err == nil {
			t.Errorf("%s was accepted", volume)
		}
	}
}

// The kernel's path is the user's: it must not lead out of the image.
func TestKernelFiles(t *testing.T) {
	vmi := vmiOf(t, "domain: {devices: {}, firmware: {kernelBoot: {container: {image: x, kernelPath: ../../etc/shadow, initrdPath: /boot/initrd}}}}")
	got := fmt.Sprint(KernelFiles(vmi))
	if want := "[/var/run/kubevirt-kernel-boot/etc/shadow /var/run/kubevirt-kernel-boot/boot/initrd]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if files := KernelFiles(vmiOf(t, "domain: {devices: {}}")); files != nil {
		t.Errorf("files %v of a guest without kernel boot", files)
	}
}

func TestClaimImageSize(t *testing.T) {
	overhead := func(s string) *v1.Percent { p := v1.Percent(s); return &p }
	size := func(s string) k8sv1.ResourceList {
		return k8sv1.ResourceList{k8sv1.ResourceStorage: resource.MustParse(s)}
	}
	tests := []struct {
		info v1.PersistentVolumeClaimInfo
		want int64
	}{
		{v1.PersistentVolumeClaimInfo{Capacity: size("1Gi")}, 1 << 30},
		{v1.PersistentVolumeClaimInfo{Capacity: size("1Gi"), FilesystemOverhead: overhead("0.5")}, 1 << 29},
		{v1.PersistentVolumeClaimInfo{Capacity: size("1Gi"), FilesystemOverhead: overhead("nonsense")}, 1 << 30},
		{v1.PersistentVolumeClaimInfo{Capacity: size("2Gi"), Requests: size("1Gi")}, 1 << 30},
		{v1.PersistentVolumeClaimInfo{Capacity: size("1500k")}, 1 << 20},
		{v1.PersistentVolumeClaimInfo{}, 0},
	}
	for _, test := range tests {
		if got := ClaimImageSize(&test.info); got != test.want {
			t.Errorf("%+v: %d, want %d", test.info, got, test.want)
		}
	}
}

// A target that changes while the guest runs makes commands hit the wrong disk.
func TestDiskTargets(t *testing.T) {
	vmi := vmiOf(t, `
domain:
  devices:
    disks:
    - {name: a, disk: {bus: virtio}}
    - {name: b, disk: {bus: virtio}}
    - {name: c, disk: {bus: scsi}}
    - {name: d, cdrom: {bus: sata}}
    - {name: e, disk: {bus: virtio}}`)
	if got, want := fmt.Sprint(DiskTargets(vmi)), "map[a:vda b:vdb c:sda d:sdb e:vdc]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	vmi.Status.VolumeStatus = []v1.VolumeStatus{{Name: "b", Target: "vda"}, {Name: "e", Target: "vda"}, {Name: "c", Target: "vdz"}}
	if got, want := fmt.Sprint(DiskTargets(vmi)), "map[a:vdb b:vda c:sda d:sdb e:vdc]"; got != want {
		t.Errorf("with known targets %s, want %s", got, want)
	}
}

func TestLetters(t *testing.T) {
	for n, want := range map[int]string{0: "a", 25: "z", 26: "aa", 27: "ab", 701: "zz", 702: "aaa"} {
		if got := letters(n); got != want {
			t.Errorf("letters(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestHostname(t *testing.T) {
	tests := []struct{ name, hostname, want string }{
		{"web", "", "web"},
		{"web.prod", "", "web"},
		{"web", "www", "www"},
		{strings.Repeat("a", 62) + "-b", "", strings.Repeat("a", 62)},
	}
	for _, test := range tests {
		vmi := &v1.VirtualMachineInstance{}
		vmi.Name, vmi.Spec.Hostname = test.name, test.hostname
		if got := Hostname(vmi); got != test.want {
			t.Errorf("%q: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestDevices(t *testing.T) {
	vmi, _, _ := loadCase(t, "hotplug")
	for _, volume := range []string{"there", "notyet"} {
		doc, err := DiskDevice(vmi, volume, wire.DiskFacts{Path: HotplugFile(volume), Format: "raw", DirectIO: true})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "device-"+volume+".xml", []byte(doc+"\n"))
	}
	nics, _, _ := loadCase(t, "two-nics")
	doc, err := InterfaceDevice(nics, "blue", Interface{Tap: "tap7"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "device-blue.xml", []byte(doc+"\n"))
	if _, err := DiskDevice(vmi, "none", wire.DiskFacts{}); err == nil {
		t.Error("a disk that does not exist has XML")
	}
	if _, err := InterfaceDevice(nics, "none", Interface{}); err == nil {
		t.Error("an interface that does not exist has XML")
	}
}
