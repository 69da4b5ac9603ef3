//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
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

// TestMachinesFollowAnUpgrade: machines are brought to the new launcher as workloadUpdateStrategy says. One that can migrate moves and is not
// restarted; those that cannot are evicted, a batch at a time.
func TestMachinesFollowAnUpgrade(t *testing.T) {
	j := start(t)
	const interval = 20 * time.Second
	j.kubectlIn(j.movable("moves", "LiveMigrate", "--network", "pod"), "apply", "-f", "-")
	stay := []string{"stays1", "stays2"}
	for _, name := range stay {
		j.kubectlIn(j.demo(name), "apply", "-f", "-")
	}
	run := func(name string) string { return j.kubectl("get", "vmi", name, "-o", "jsonpath={.metadata.uid}") }
	runs := map[string]string{}
	for _, name := range append(stay, "moves") {
		j.virtctl("wait", name, "--for", "running", "--timeout", "60s")
		j.awaitConsole(name, "Welcome to the demo guest")
		runs[name] = run(name)
	}
	boot := j.bootID("moves")
	j.Cleanup(func() { j.strategy("null") })
	j.strategy(`{"workloadUpdateMethods":["LiveMigrate","Evict"],"batchEvictionSize":1,"batchEvictionInterval":"` + interval.String() + `"}`)
	next := j.anotherVersion()
	t.Cleanup(func() { j.platform("install", "--timeout", "3m") })
	j.platform("install", "--tag", next, "--timeout", "3m")

	j.awaitField("vmi/moves", ".status.launcherContainerImageVersion", "localhost/virtctl/virt-launcher:"+next, 2*time.Minute)
	j.want("the run of the machine that moves", run("moves"), runs["moves"])
	j.want("its boot", j.bootID("moves"), boot)
	var born []time.Time
	for _, name := range stay {
		j.awaitAnother("vmi/"+name, runs[name])
		j.virtctl("wait", name, "--for", "running", "--timeout", "60s")
		at, err := time.Parse(time.RFC3339, j.kubectl("get", "vmi", name, "-o", "jsonpath={.metadata.creationTimestamp}"))
		if err != nil {
			t.Fatal(err)
		}
		born = append(born, at)
		j.want("the launcher of "+name, j.kubectl("get", "vmi", name, "-o", "jsonpath={.status.launcherContainerImageVersion}"), "localhost/virtctl/virt-launcher:"+next)
	}
	// The machines' last moments take a while, one more than the other.
	if apart := born[1].Sub(born[0]).Abs(); apart < interval/2 {
		t.Errorf("batches of one are %s apart, not %s", apart, interval)
	}
	platform := &journey{T: t, namespace: "kubevirt"}
	platform.awaitField("kubevirt/kubevirt", ".status.outdatedVirtualMachineInstanceWorkloads", "0", time.Minute)
}

// strategy says how machines follow an upgrade.
func (j *journey) strategy(value string) {
	j.Helper()
	j.kubectl("patch", "kubevirt", "-n", "kubevirt", "kubevirt", "--type", "merge", "-p", `{"spec":{"workloadUpdateStrategy":`+value+`}}`)
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
