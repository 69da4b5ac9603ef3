package status

import "testing"

// A drive that counts as full would never be given its disc.
func TestMedium(t *testing.T) {
	d, err := ParseDomain(`<domain type="qemu"><devices>` +
		`<disk type="file" device="cdrom"><target dev="sda" bus="sata"></target><alias name="ua-empty"></alias></disk>` +
		`<disk type="file" device="cdrom"><source index="2"></source><target dev="sdb" bus="sata"></target><alias name="ua-opened"></alias></disk>` +
		`<disk type="file" device="cdrom"><source file="/x.img"></source><target dev="sdc" bus="sata"></target><alias name="ua-full"></alias></disk>` +
		`<disk type="block" device="disk"><source dev="/dev/x"></source><target dev="vda" bus="virtio"></target><alias name="ua-block"></alias></disk>` +
		`</devices></domain>`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"empty": false, "opened": false, "full": true, "block": true} {
		if d.Full[name] != want || d.Targets[name] == "" {
			t.Errorf("%s: full %v, target %q", name, d.Full[name], d.Targets[name])
		}
	}
}
