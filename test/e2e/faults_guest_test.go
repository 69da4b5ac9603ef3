//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// strategies have one machine each, named after them.
var strategies = []struct{ name, strategy string }{
	{"always", "Always"}, {"rerun", "RerunOnFailure"}, {"manual", "Manual"}, {"once", "Once"},
}

// startOneOfEach starts a machine of each run strategy.
func (j *journey) startOneOfEach() {
	j.Helper()
	for _, s := range strategies {
		j.kubectlIn(j.demo(s.name, "--run-strategy", s.strategy), "apply", "-f", "-")
	}
	j.virtctl("start", "manual")
	j.virtctl("wait", "always", "rerun", "manual", "once", "--for", "running", "--timeout", "90s")
}

// logIn logs in to a guest's console. It is a step of its own: what is typed before the shell is there is lost.
func (j *journey) logIn(name string) {
	j.Helper()
	j.awaitConsole(name, "Welcome to the demo guest")
	j.pipe("\nroot\n", "console", name, "--timeout", "20s")
}

// TestPowerOff: a guest that turns itself off is started again only if it shall always run.
func TestPowerOff(t *testing.T) {
	j := start(t)
	j.startOneOfEach()
	for _, s := range strategies {
		j.logIn(s.name)
	}
	gone := j.going("vmi/always", "vmi/rerun")
	for _, s := range strategies {
		j.try("\npoweroff\n", "console", s.name, "--timeout", "5s")
	}
	gone()
	j.virtctl("wait", "always", "--for", "running", "--timeout", "60s")
	j.awaitStatus("rerun", "Stopped")
	for _, name := range []string{"manual", "once"} {
		j.awaitField("vmi/"+name, ".status.phase", "Succeeded", time.Minute)
		j.awaitStatus(name, "Stopped")
	}
	// What stopped by itself can be started by hand.
	j.virtctl("start", "rerun", "manual", "--wait", "--timeout", "60s")
}

// TestLostMachines: a QEMU or a launcher that is killed is a failure; who shall run after failures does.
func TestLostMachines(t *testing.T) {
	for name, victim := range map[string]func(*journey, string, string) string{"qemu": (*journey).qemu, "launcher": (*journey).launcher} {
		t.Run(name, func(t *testing.T) {
			j := start(t)
			j.startOneOfEach()
			gone := j.going("vmi/always", "vmi/rerun")
			for _, s := range strategies {
				node := j.nodeOf(s.name)
				j.kube("node", "exec", node, "--", "kill", "-9", victim(j, node, s.name))
			}
			gone()
			j.virtctl("wait", "always", "rerun", "--for", "running", "--timeout", "60s")
			for _, name := range []string{"manual", "once"} {
				j.awaitField("vmi/"+name, ".status.phase", "Failed", time.Minute)
				j.awaitStatus(name, "Stopped")
			}
		})
	}
}

// TestGuestCrash: a guest whose kernel panics on a machine with a panic device has failed: who shall run after failures is started again.
func TestGuestCrash(t *testing.T) {
	j := start(t)
	for _, s := range strategies {
		manifest := strings.Replace(j.demo(s.name, "--run-strategy", s.strategy), "devices: {}", "devices: {panicDevices: [{model: pvpanic}]}", 1)
		j.kubectlIn(manifest, "apply", "-f", "-")
	}
	j.virtctl("start", "manual")
	j.virtctl("wait", "always", "rerun", "manual", "once", "--for", "running", "--timeout", "90s")
	for _, s := range strategies {
		j.logIn(s.name)
	}
	gone := j.going("vmi/always", "vmi/rerun")
	for _, s := range strategies {
		j.try("\necho c > /proc/sysrq-trigger\n", "console", s.name, "--timeout", "5s")
	}
	gone()
	j.virtctl("wait", "always", "rerun", "--for", "running", "--timeout", "60s")
	for _, name := range []string{"manual", "once"} {
		j.awaitField("vmi/"+name, ".status.phase", "Failed", time.Minute)
		j.awaitStatus(name, "Stopped")
	}
}
