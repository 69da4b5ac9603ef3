//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// claim makes a claim of block storage.
func (j *journey) claim(name, access, class, size string) {
	j.Helper()
	j.kubectlIn(fmt.Sprintf(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":%q},"spec":{"accessModes":[%q],
"storageClassName":%q,"volumeMode":"Block","resources":{"requests":{"storage":%q}}}}`, name, access, class, size), "apply", "-f", "-")
}

// counterDisk names the disk in the guest that a test looks at, by its size of 16 MiB in sectors. Which letter it gets is the kernel's whim.
const counterDisk = "/dev/$(grep -lx 32768 /sys/block/sd*/size | cut -d/ -f4)"

// startCounter lets the guest count on the disk that both nodes share, as fast as it can.
func (v *traveller) startCounter() {
	v.Helper()
	v.pipe("\nd="+counterDisk+"; (n=0; while :; do n=$((n+1)); echo count $n | dd of=$d bs=512 count=1 conv=sync,fsync 2>/dev/null; done) & echo $! > /tmp/counter\n",
		"console", v.name, "--timeout", "20s")
}

// count is what stands on the shared disk, as the only QEMU of the machine has it open: what another one wrote there would be seen, too.
func (v *traveller) count() string {
	v.Helper()
	machines := processes("guest=" + v.namespace + "_" + v.name + ",")
	if len(machines) != 1 {
		v.Fatalf("%d QEMUs run the guest", len(machines))
	}
	// Past this machine's cache, as the guests write.
	device := fmt.Sprintf("/proc/%d/root/dev/counter", machines[0])
	block, err := exec.Command("dd", "if="+device, "iflag=direct", "bs=4096", "count=1", "status=none").Output()
	if err != nil {
		v.Fatalf("read %s: %v", device, err)
	}
	text := strings.TrimSpace(string(bytes.TrimRight(block[:min(512, len(block))], "\x00")))
	if text == "" {
		volume := v.kubectl("get", "pvc", "counter", "-o", "jsonpath={.spec.volumeName}")
		node, _ := exec.Command("ls", "-lani", device, v.kubectl("get", "pv", volume, "-o", "jsonpath={.spec.local.path}")).CombinedOutput()
		loops, _ := exec.Command("losetup", "-l", "-O", "NAME,BACK-FILE,BACK-INO,MAJ:MIN,DIO,AUTOCLEAR").CombinedOutput()
		v.Fatalf("%d bytes were read, and nobody has counted there:\n%s\n%s", len(block), node, loops)
	}
	return text
}

var counted = regexp.MustCompile(`count [0-9]+`)

// countsAlone proves that no second QEMU runs the guest: when its counter is stopped, the shared disk stands still at what the guest says.
func (v *traveller) countsAlone() {
	v.Helper()
	ask := "\nkill $(cat /tmp/counter); sync; dd if=" + counterDisk + " bs=512 count=1 iflag=direct 2>/dev/null; echo\n"
	said := counted.FindAllString(v.pipe(ask, "console", v.name, "--timeout", "20s"), -1)
	if len(said) == 0 {
		v.Fatalf("the guest does not say how far it counted; the disk has %q", v.count())
	}
	first := v.count()
	v.want("what the guest reads on the shared disk", said[len(said)-1], first)
	// A guest elsewhere would have counted on while this one answers once more.
	v.pipe("\necho still here\n", "console", v.name, "--timeout", "20s")
	v.want("the shared disk when the guest does not count", v.count(), first)
	v.startCounter()
}
