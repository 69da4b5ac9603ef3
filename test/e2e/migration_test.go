//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// TestLiveMigration: a guest moves to the other node and goes on where it was: it neither reboots nor loses its inner address.
func TestLiveMigration(t *testing.T) {
	j := start(t)
	seed := base64.StdEncoding.EncodeToString([]byte("#cloud-config\nhostname: seeded\n"))
	j.kubectlIn(j.demo("mover", "--network", "pod", "--cloud-init-user-data", seed, "--run-strategy", "Halted"), "apply", "-f", "-")
	j.kubectl("patch", "vm", "mover", "--type", "json", "-p",
		`[{"op":"add","path":"/spec/template/spec/volumes/-","value":{"name":"scratch","emptyDisk":{"capacity":"16Mi"}}}]`)
	j.virtctl("start", "mover", "--wait", "--timeout", "60s")
	j.awaitConsole("mover", "Welcome to the demo guest")
	before := j.kubectl("get", "vmi", "mover", "-o", "jsonpath={.status.nodeName}")
	j.pipe("\nroot\n", "console", "mover", "--timeout", "20s")
	if out := j.pipe("echo kept-in-memory > /tmp/mark; cat /tmp/mark\n", "console", "mover", "--timeout", "20s"); !strings.Contains(out, "\nkept-in-memory") {
		t.Fatalf("the guest does not keep the mark:\n%s", out)
	}
	j.pipe("\necho on''-disk | dd of="+counterDisk+" bs=512 seek=9 conv=sync,fsync 2>/dev/null\n", "console", "mover", "--timeout", "20s")
	j.virtctl("migrate", "mover", "--wait", "--timeout", "90s")
	after := j.kubectl("get", "vmi", "mover", "-o", "jsonpath={.status.nodeName}")
	if before == after {
		t.Errorf("the machine is still on %s", after)
	}
	j.want("phase of the migration", j.kubectl("get", "vmim", "-o", "jsonpath={.items[0].status.phase}"), "Succeeded")
	if out := j.pipe("\ncat /tmp/mark\n", "console", "mover", "--timeout", "20s"); !strings.Contains(out, "\nkept-in-memory") {
		t.Errorf("the guest has lost what was in its memory:\n%s", out)
	}
	// Its own disk and its cloud-init disk are read anew.
	j.pipe("\necho 3 > /proc/sys/vm/drop_caches; dd if="+counterDisk+" bs=512 skip=9 count=1 2>/dev/null | head -c 8; "+
		"for d in /dev/sd?; do dd if=$d bs=64k count=12 2>/dev/null | tr -d '\\000' | grep 'hostname: seede[d]'; done\n",
		"console", "mover", "--timeout", "20s")
	j.awaitConsole("mover", "on-disk")
	j.awaitConsole("mover", "hostname: seeded")

	// Back again, by a label and told to a program.
	j.kubectl("label", "vm", "mover", "tier=web")
	var moved struct {
		VM, Phase, From, To string
		TransferredBytes    uint64
	}
	told := j.virtctl("migrate", "-l", "tier=web", "--wait", "--timeout", "90s", "-o", "json")
	if err := json.Unmarshal([]byte(told), &moved); err != nil {
		t.Fatalf("%v\n%s", err, told)
	}
	if moved.VM != "mover" || moved.Phase != "Succeeded" || moved.From != after || moved.To != before || moved.TransferredBytes == 0 {
		t.Errorf("the way back from %s to %s was told as %s", after, before, told)
	}
	page := j.virtctl("describe", "mover")
	if at := strings.Index(page, "Last migrations:"); at < 0 || strings.Count(page[at:], "Succeeded") < 2 {
		t.Errorf("two migrations are not described:\n%s", page)
	}

	j.virtctl("stop", "mover", "--wait")
	j.virtctl("delete", "mover", "--wait")
}

// TestMigrationIsExplained: what cannot work is refused with its reason, and nothing is left of it.
func TestMigrationIsExplained(t *testing.T) {
	j := start(t)
	j.kubectlIn(j.demo("still", "--run-strategy", "Halted"), "apply", "-f", "-")
	j.refused(5, "not running", "migrate", "still")
	if left := j.kubectl("get", "vmim", "-o", "name"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
