//go:build e2e

package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledComponentsLeaveMachinesAlone kills every part of the platform and of the node below it while a machine runs. The machine must
// not notice, and afterwards everything about it works.
func TestKilledComponentsLeaveMachinesAlone(t *testing.T) {
	j := start(t)
	j.boot("rock")
	node := j.nodeOf("rock")
	qemu := j.qemu(node, "rock")
	uid := j.kubectl("get", "vmi", "rock", "-o", "jsonpath={.metadata.uid}")
	for _, part := range []struct{ name, label, pattern string }{
		{"virt-handler", "virt-handler", "^/usr/bin/virt-handler "},
		{"virt-api", "virt-api", "^/usr/bin/virt-server api"},
		{"virt-controller", "virt-controller", "^/usr/bin/virt-server controller"},
		{"virt-operator", "virt-operator", "^/usr/bin/virt-server operator"},
		{"containerd", "", "^virt-kube containerd --config"},
		{"kubelet", "", "^virt-kube kubelet "},
	} {
		if part.label == "" {
			if j.killOn(node, part.pattern) != 1 {
				t.Errorf("%s did not run on %s", part.name, node)
			}
		} else {
			j.killPods(part.label, part.pattern)
		}
		j.want("QEMU after the loss of "+part.name, j.qemu(node, "rock"), qemu)
		j.want("the machine after the loss of "+part.name,
			j.kubectl("get", "vmi", "rock", "-o", "jsonpath={.metadata.uid} {.status.phase}"), uid+" Running")
		j.virtctl("pause", "vm", "rock")
		j.awaitStatus("rock", "Paused")
		j.virtctl("unpause", "vm", "rock")
		j.awaitStatus("rock", "Running")
	}
	j.kubectlIn(pinned(j.demo("pebble"), node), "apply", "-f", "-")
	j.virtctl("wait", "pebble", "--for", "running", "--timeout", "90s")
	j.logIn("rock")
	if out := j.pipe("\nuname\n", "console", "rock", "--timeout", "20s"); !strings.Contains(out, "Linux") {
		t.Errorf("the console is dead:\n%s", out)
	}
	j.want("QEMU at the end", j.qemu(node, "rock"), qemu)
	j.virtctl("stop", "rock", "--wait")
	j.virtctl("delete", "rock", "pebble", "--wait")
}

// killPods kills the main process of every pod of a component and waits until kubelet has started each again.
func (j *journey) killPods(component, pattern string) {
	j.Helper()
	pods := j.kubectl("get", "pods", "-n", "kubevirt", "-l", "kubevirt.io="+component, "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
	killed := map[string]bool{}
	for line := range strings.Lines(pods) {
		if node := strings.Fields(line)[1]; !killed[node] {
			killed[node] = true
			if j.killOn(node, pattern) == 0 {
				j.Errorf("%s did not run on %s", component, node)
			}
		}
	}
	for line := range strings.Lines(pods) {
		f := strings.Fields(line)
		before, err := strconv.Atoi(f[2])
		if err != nil {
			j.Fatalf("restarts of %s: %v", f[0], err)
		}
		pod := "pod/" + f[0]
		for _, condition := range []string{"jsonpath={.status.containerStatuses[0].restartCount}=" + strconv.Itoa(before+1), "condition=Ready"} {
			r := j.kubectlTry("", "wait", pod, "-n", "kubevirt", "--for="+condition, "--timeout=60s")
			if r.Code != 0 {
				j.Errorf("%s does not come back: %s", pod, r.Stderr)
			}
		}
	}
}

// TestNoNameService: a machine's whole life needs no DNS.
func TestNoNameService(t *testing.T) {
	j := start(t)
	j.kube("dns", "stop")
	t.Cleanup(func() { j.kube("dns", "start") })
	j.boot("nameless")
	j.virtctl("restart", "nameless", "--wait", "--timeout", "60s")
	j.virtctl("stop", "nameless", "--wait", "--timeout", "60s")
	j.virtctl("delete", "nameless", "--wait", "--timeout", "60s")
}

// TestNodeReboot: a power cut of a node ends its machines; those that shall always run come back, the others say that they stopped.
func TestNodeReboot(t *testing.T) {
	j := start(t)
	const node = "node02"
	for name, strategy := range map[string]string{"always": "Always", "rerun": "RerunOnFailure", "manual": "Manual", "once": "Once"} {
		j.kubectlIn(pinned(j.demo(name, "--run-strategy", strategy), node), "apply", "-f", "-")
	}
	j.virtctl("start", "manual")
	j.virtctl("wait", "always", "rerun", "manual", "once", "--for", "running", "--timeout", "90s")
	gone := j.going("vmi/always", "vmi/rerun")
	j.kube("node", "kill", node)
	j.kube("node", "start", node)
	gone()
	j.virtctl("wait", "always", "rerun", "--for", "running", "--timeout", "90s")
	for _, name := range []string{"manual", "once"} {
		j.awaitField("vmi/"+name, ".status.phase", "Failed", time.Minute)
		j.awaitStatus(name, "Stopped")
	}
	j.kubectl("wait", "pods", "--all", "-n", "kubevirt", "--for=condition=Ready", "--timeout=90s")
}

// TestMachineReboot: a power cut of the machine itself takes the control plane and all nodes with it. After the next start, machines that
// shall always run do, and the platform is healthy.
func TestMachineReboot(t *testing.T) {
	j := start(t)
	j.kubectlIn(j.demo("always"), "apply", "-f", "-")
	j.kubectlIn(j.demo("once", "--run-strategy", "Once"), "apply", "-f", "-")
	j.virtctl("wait", "always", "once", "--for", "running", "--timeout", "90s")
	before := j.kubectl("get", "vmi/always", "-o", "jsonpath={.metadata.uid}")
	var server struct{ Pid int }
	if err := json.Unmarshal([]byte(j.kube("status", "-o", "json")), &server); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := shared.Up(); err != nil {
		t.Fatal(err)
	}
	j.awaitAnother("vmi/always", before)
	j.virtctl("wait", "always", "--for", "running", "--timeout", "90s")
	j.awaitField("vmi/once", ".status.phase", "Failed", time.Minute)
	j.kubectl("wait", "pods", "--all", "-n", "kubevirt", "--for=condition=Ready", "--timeout=120s")
	j.platform("status")
}
