//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestUpgradeInPlace: another version of the platform takes over a running machine: the same QEMU runs on, and its console answers.
func TestUpgradeInPlace(t *testing.T) {
	j := start(t)
	j.boot("stays")
	j.logIn("stays")
	node := j.nodeOf("stays")
	qemu := j.qemu(node, "stays")
	// Nobody removes the platform under a machine by accident.
	if r := command(t.Context(), "", "virtctl", "uninstall", "--timeout", "30s"); r.Code != 5 || !strings.Contains(r.Stderr, "/stays") {
		t.Fatalf("uninstall while a machine runs: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	next := j.anotherVersion()
	t.Cleanup(func() { j.platform("install", "--timeout", "3m") })
	if out := j.platform("install", "--tag", next, "--timeout", "3m"); !strings.Contains(out, next) || !strings.Contains(out, "upgraded") {
		t.Errorf("the installer does not say that it upgraded to %s: %s", next, out)
	}
	status := j.platform("status")
	if all := strings.Count(status, "Deployment") + strings.Count(status, "DaemonSet"); all == 0 || strings.Count(status, next) != all {
		t.Errorf("not every component has the version %s:\n%s", next, status)
	}
	j.want("QEMU after the upgrade", j.qemu(node, "stays"), qemu)
	j.want("phase after the upgrade", j.kubectl("get", "vmi", "stays", "-o", "jsonpath={.status.phase}"), "Running")
	if out := j.pipe("\nuname\n", "console", "stays", "--timeout", "20s"); !strings.Contains(out, "Linux") {
		t.Errorf("the console is dead after the upgrade:\n%s", out)
	}
	j.virtctl("stop", "stays", "--wait", "--timeout", "60s")
}

// anotherVersion gives the nodes the platform's images under another tag: to the installer that is another version.
func (j *journey) anotherVersion() string {
	j.Helper()
	next := shared.Tag + "-next"
	for node := range strings.FieldsSeq(j.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")) {
		for _, image := range []string{"virt-server", "virt-handler", "virt-launcher"} {
			ref := "localhost/virtctl/" + image + ":"
			j.kube("ctr", "--node", node, "images", "tag", "--force", ref+shared.Tag, ref+next)
		}
	}
	return next
}
