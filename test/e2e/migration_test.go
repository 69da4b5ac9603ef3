//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestLiveMigration: a guest moves to the other node and goes on where it was: it neither reboots nor loses its inner address.
func TestLiveMigration(t *testing.T) {
	j := start(t)
	j.boot("mover", "--network", "pod")
	before := j.kubectl("get", "vmi", "mover", "-o", "jsonpath={.status.nodeName}")
	j.pipe("\nroot\n", "console", "mover", "--timeout", "20s")
	if out := j.pipe("echo kept-in-memory > /tmp/mark; cat /tmp/mark\n", "console", "mover", "--timeout", "20s"); !strings.Contains(out, "\nkept-in-memory") {
		t.Fatalf("the guest does not keep the mark:\n%s", out)
	}
	j.virtctl("migrate", "mover", "--wait", "--timeout", "90s")
	after := j.kubectl("get", "vmi", "mover", "-o", "jsonpath={.status.nodeName}")
	if before == after {
		t.Errorf("the machine is still on %s", after)
	}
	j.want("phase of the migration", j.kubectl("get", "vmim", "-o", "jsonpath={.items[0].status.phase}"), "Succeeded")
	if out := j.pipe("\ncat /tmp/mark\n", "console", "mover", "--timeout", "20s"); !strings.Contains(out, "\nkept-in-memory") {
		t.Errorf("the guest has lost what was in its memory:\n%s", out)
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
