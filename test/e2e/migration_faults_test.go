//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// traveller is a machine whose migrations take long enough for something to happen to them.
type traveller struct {
	*journey
	name, from, boot string
}

// slow boots a machine and gives it a policy: its memory goes over at the speed given, the rest is as in settings.
func slow(t *testing.T, speed string, settings ...string) *traveller {
	t.Helper()
	v := &traveller{journey: start(t)}
	policy := fmt.Sprintf(`{"apiVersion":"migrations.kubevirt.io/v1alpha1","kind":"MigrationPolicy","metadata":{"name":%[1]q},
"spec":{"bandwidthPerMigration":%[2]q,"selectors":{"virtualMachineInstanceSelector":{"e2e":%[1]q}}%[3]s}}`,
		v.namespace, speed, strings.Join(append([]string{""}, settings...), ","))
	v.kubectlIn(policy, "apply", "-f", "-")
	t.Cleanup(func() { v.kubectl("delete", "migrationpolicy", v.namespace) })
	v = bootTraveller(v.journey)
	v.kubectl("label", "vmi", v.name, "e2e="+v.namespace)
	return v
}

// bootTraveller boots a machine that counts on a disk which both nodes share.
func bootTraveller(j *journey) *traveller {
	j.Helper()
	v := &traveller{journey: j, name: "mover"}
	v.claim("counter", "ReadWriteMany", "shared", "16Mi")
	v.journey.boot(v.name, "--network", "pod", "--volume-pvc", "src:counter")
	v.boot = v.bootID(v.name)
	v.from = v.node(v.name)
	v.startCounter()
	return v
}

// depart starts a migration and waits until memory moves.
func (v *traveller) depart() {
	v.Helper()
	v.virtctl("migrate", v.name)
	v.kubectl("wait", "vmim", "--all", "--for", "jsonpath={.status.phase}=Running", "--timeout", "90s")
}

// stayed checks that the machine goes on where it was, once, and that the migration says why.
func (v *traveller) stayed(why string) {
	v.Helper()
	v.kubectl("wait", "vmim", "--all", "--for", "jsonpath={.status.phase}=Failed", "--timeout", "120s")
	said := v.kubectl("get", "vmim", "-o", "jsonpath={.items[*].status.conditions[*].message} {.items[*].status.migrationState.failureReason}")
	if !strings.Contains(said, why) {
		v.Errorf("the migration says %q, not %q", said, why)
	}
	v.goesOn(v.from)
}

// goesOn checks that the guest runs on a node, and nowhere else, in the boot it was in.
func (v *traveller) goesOn(node string) {
	v.Helper()
	v.want("the machine's node", v.node(v.name), node)
	v.want("the guest's boot", v.bootID(v.name), v.boot)
	v.kubectl("wait", "pods", "-l", "kubevirt.io=virt-launcher", "--for", "delete", "--field-selector", "spec.nodeName!="+node, "--timeout", "60s")
	if n := len(processes("guest=" + v.namespace + "_" + v.name + ",")); n != 1 {
		v.Errorf("%d QEMUs run the guest", n)
	}
	v.countsAlone()
}

// processes finds processes of this machine, which all its nodes share, by what is in their command line.
func processes(words ...string) []int {
	var found []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		line = bytes.ReplaceAll(line, []byte{0}, []byte{' '})
		all := true
		for _, word := range words {
			all = all && bytes.Contains(line, []byte(word))
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && all && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

// kill9 kills the one process of this cluster's pod that runs a component.
func (v *traveller) kill9(component, pod string) {
	v.Helper()
	if err := syscall.Kill(v.processOf(component, pod), syscall.SIGKILL); err != nil {
		v.Fatal(err)
	}
}

// processOf is the one process of this cluster's pod that runs a component.
func (v *traveller) processOf(component, pod string) int {
	v.Helper()
	uid := v.kubectl("get", "pod", "-n", "kubevirt", pod, "-o", "jsonpath={.metadata.uid}")
	for _, pid := range processes("/usr/bin/" + component) {
		if groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); err == nil && bytes.Contains(groups, []byte(uid)) {
			return pid
		}
	}
	v.Fatalf("no process of %s in pod %s", component, pod)
	return 0
}

func (v *traveller) handler(node string) string {
	return v.kubectl("get", "pods", "-n", "kubevirt", "-l", "kubevirt.io=virt-handler", "--field-selector", "spec.nodeName="+node, "-o", "jsonpath={.items[0].metadata.name}")
}

// TestMigrationAborted: a second migration of a machine is refused while one runs; the one that runs can be ended, and the machine stays.
func TestMigrationAborted(t *testing.T) {
	v := slow(t, "2Mi")
	v.depart()
	v.refused(9, "in-flight migration detected", "migrate", v.name)
	v.virtctl("migrate-cancel", v.name, "--wait", "--timeout", "60s")
	v.goesOn(v.from)
	v.want("how the abort ended", v.kubectl("get", "vmi", v.name, "-o", "jsonpath={.status.migrationState.abortStatus}"), "Succeeded")
}

// TestNoOtherNode: without a second node a migration waits and says for what; it can be cancelled.
func TestNoOtherNode(t *testing.T) {
	v := slow(t, "64Mi")
	other := v.kubectl("get", "nodes", "--field-selector", "metadata.name!="+v.from, "-o", "jsonpath={.items[0].metadata.name}")
	v.kubectl("cordon", other)
	v.Cleanup(func() { v.kubectl("uncordon", other) })
	if r := v.try("", "migrate", v.name, "--dry-run"); r.Code != 5 || !strings.Contains(r.Stdout, "no node can take it") || !strings.Contains(r.Stdout, "it is cordoned") {
		t.Errorf("the dry run: %+v", r)
	}
	v.refused(3, "there is no node unknown-node", "migrate", v.name, "--to-node", "unknown-node")
	v.refused(5, "runs on node "+v.from+" already", "migrate", v.name, "--to-node", v.from)
	v.refused(6, "is Scheduling", "migrate", v.name, "--wait", "--timeout", "8s")
	v.virtctl("migrate-cancel", v.name, "--wait", "--timeout", "60s")
	v.goesOn(v.from)
}

// TestTargetPodKilled: the machine goes on where it was when the pod it shall move into is lost.
func TestTargetPodKilled(t *testing.T) {
	v := slow(t, "2Mi")
	v.depart()
	target := v.kubectl("get", "vmi", v.name, "-o", "jsonpath={.status.migrationState.targetPod}")
	v.kubectl("delete", "pod", target, "--grace-period", "0", "--force")
	v.stayed("")
}

// TestAgentsKilledDuringMigration: killing the agent of either node loses the migration at most, never the machine.
func TestAgentsKilledDuringMigration(t *testing.T) {
	for _, end := range []string{"source", "target"} {
		t.Run(end, func(t *testing.T) {
			v := slow(t, "2Mi")
			v.depart()
			node := v.kubectl("get", "vmi", v.name, "-o", "jsonpath={.status.migrationState."+end+"Node}")
			v.kill9("virt-handler", v.handler(node))
			v.stayed("")
			v.kubectl("wait", "pods", "-n", "kubevirt", "-l", "kubevirt.io=virt-handler", "--for", "condition=Ready", "--timeout", "90s")
		})
	}
}

// TestControllerKilledDuringMigration: the migration goes on without the controller, and the next one takes it up.
func TestControllerKilledDuringMigration(t *testing.T) {
	v := slow(t, "8Mi")
	v.depart()
	leader := v.kubectl("get", "lease", "-n", "kubevirt", "virt-controller", "-o", "jsonpath={.spec.holderIdentity}")
	pod, _, _ := strings.Cut(leader, "_")
	v.kill9("virt-server", pod)
	v.kubectl("wait", "vmim", "--all", "--for", "jsonpath={.status.phase}=Succeeded", "--timeout", "120s")
	to := v.node(v.name)
	if to == v.from {
		t.Errorf("the machine is still on %s", to)
	}
	v.goesOn(to)
}

// TestBusyGuest: a guest that changes its memory faster than it can be sent stays, and the migration says why.
func TestBusyGuest(t *testing.T) {
	v := slow(t, "4Mi", `"completionTimeoutPerGiB":8`)
	v.pipe("\n(while :; do head -c 30000000 /dev/urandom > /tmp/noise; done) &\n", "console", v.name, "--timeout", "20s")
	v.depart()
	v.stayed("completionTimeoutPerGiB")
}

// TestDeletedDuringMigration: nothing is left of a machine that is deleted while it moves.
func TestDeletedDuringMigration(t *testing.T) {
	v := slow(t, "2Mi")
	v.depart()
	v.virtctl("delete", v.name, "--wait", "--timeout", "90s")
	v.kubectl("wait", "pods", "--all", "--for", "delete", "--timeout", "60s")
	if left := processes("guest=" + v.namespace + "_" + v.name + ","); len(left) != 0 {
		t.Errorf("QEMUs are left: %v", left)
	}
	if left := v.kubectl("get", "vmi,vmim", "-o", "jsonpath={.items[?(@.status.phase!=\"Failed\")].metadata.name}"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
