//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// allow switches a feature gate on until the test ends.
func (j *journey) allow(gate string) {
	j.Helper()
	change := func(gates string) {
		j.kubectl("patch", "kubevirt", "-n", "kubevirt", "kubevirt", "--type", "merge",
			"-p", `{"spec":{"configuration":{"developerConfiguration":{"featureGates":`+gates+`}}}}`)
	}
	j.Cleanup(func() { change("null") })
	change(`["` + gate + `"]`)
}

// TestPluggedDisksMove: a disk that is plugged into a running guest goes with it to the other node, and can be pulled out there.
func TestPluggedDisksMove(t *testing.T) {
	j := start(t)
	j.allow("HotplugVolumes")
	j.boot("mover", "--network", "pod")
	j.logIn("mover")
	j.claim("extra", "ReadWriteMany", "shared", "16Mi")
	phase := func(want string) {
		t.Helper()
		j.kubectl("wait", "vmi/mover", "--for", `jsonpath={.status.volumeStatus[?(@.name=="extra")].phase}=`+want, "--timeout", "60s")
	}
	j.virtctl("addvolume", "mover", "--volume-name", "extra")
	phase("Ready")
	ask := func(command, answer string) {
		t.Helper()
		if out := j.pipe("\n"+command+"\n", "console", "mover", "--timeout", "20s"); !strings.Contains(out, "\n"+answer) {
			t.Fatalf("the guest does not answer %q with %q:\n%s", command, answer, out)
		}
	}
	ask("echo on-the-plugged-disk | dd of=/dev/sdb conv=sync,fsync 2>/dev/null; head -c 19 /dev/sdb", "on-the-plugged-disk")

	from := j.node("mover")
	j.virtctl("migrate", "mover", "--wait", "--timeout", "90s")
	if to := j.node("mover"); to == from {
		t.Errorf("the machine is still on %s", to)
	}
	if said := j.kubectl("logs", "-n", "kubevirt", "-l", "kubevirt.io=virt-handler", "--tail", "-1"); strings.Contains(said, "prepare the migration of "+j.namespace) {
		t.Errorf("virt-handler did not wait for the attachment pod but tried and failed:\n%s", said)
	}
	phase("Ready")
	ask("dd if=/dev/sdb iflag=direct bs=512 count=1 2>/dev/null | head -c 19", "on-the-plugged-disk")

	j.virtctl("removevolume", "mover", "--volume-name", "extra")
	j.kubectl("wait", "pods", "-l", "kubevirt.io=hotplug-disk", "--for", "delete", "--timeout", "60s")
	// QEMU tells the guest, whose kernel takes the device away in its own time.
	ask("while test -e /dev/sdb; do :; done; echo no-disk-any-more", "no-disk-any-more")
	j.want("the machine's volumes", j.kubectl("get", "vmi", "mover", "-o", "jsonpath={.status.volumeStatus[*].name}"), "mover-containerdisk-0")
}
