//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// other is the node the machine is not on.
func (v *traveller) other() string {
	v.Helper()
	return v.kubectl("get", "nodes", "--field-selector", "metadata.name!="+v.from, "-o", "jsonpath={.items[0].metadata.name}")
}

// TestTargetDiskFull: when the node that a machine moves to has no room for its local disk, the machine stays, says why, and can move
// when there is room.
func TestTargetDiskFull(t *testing.T) {
	v := &traveller{journey: start(t), name: "mover"}
	v.claim("counter", "ReadWriteMany", "shared", "16Mi")
	v.kubectlIn(v.demo(v.name, "--network", "pod", "--volume-pvc", "src:counter", "--run-strategy", "Manual"), "apply", "-f", "-")
	v.kubectl("patch", "vm", v.name, "--type", "json", "-p",
		`[{"op":"add","path":"/spec/template/spec/volumes/-","value":{"name":"scratch","emptyDisk":{"capacity":"200Mi"}}}]`)
	v.virtctl("start", v.name)
	v.virtctl("wait", v.name, "--for", "running", "--timeout", "60s")
	v.awaitConsole(v.name, "Welcome to the demo guest")
	v.boot, v.from = v.bootID(v.name), v.node(v.name)
	v.pipe("\nd=/dev/$(grep -lx 409600 /sys/block/sd*/size | cut -d/ -f4); head -c 8000000 /dev/urandom > /tmp/noise; "+
		"(i=0; while [ $i -lt 8 ]; do cat /tmp/noise; i=$((i+1)); done) | dd of=$d bs=1M conv=fsync; rm /tmp/noise; echo filled''-up\n",
		"console", v.name, "--timeout", "20s")
	v.awaitConsole(v.name, "filled-up")
	v.startCounter()

	// The pod it would move into gets its storage before a node gets the pod: less than the guest has written.
	node := v.other()
	v.kubectl("cordon", node)
	t.Cleanup(func() { v.kubectl("uncordon", node) })
	v.virtctl("migrate", v.name)
	v.kubectl("wait", "pods", "-l", "kubevirt.io/migrationJobUID", "--for", "create", "--timeout", "60s")
	pod := "/var/lib/kubelet/pods/" + v.kubectl("get", "pods", "-l", "kubevirt.io/migrationJobUID", "-o", "jsonpath={.items[0].metadata.uid}")
	dir := pod + "/volumes/kubernetes.io~empty-dir/private"
	v.kube("node", "exec", node, "--", "sh", "-ec", fmt.Sprintf("mkdir -p %[1]s; mount -t tmpfs -o size=32m e2e-small %[1]s", dir))
	v.kubectl("uncordon", node)

	v.stayed("No space left on device")
	if left := v.kube("node", "exec", node, "--", "sh", "-c", "ls -d "+pod+" 2>/dev/null; grep e2e-small /proc/mounts; true"); left != "" {
		t.Errorf("left behind on %s: %s", node, left)
	}
	v.kubectl("delete", "vmim", "--all")
	v.virtctl("migrate", v.name, "--wait", "--timeout", "120s")
	v.goesOn(node)
}

// TestClaimsDecideMigration: a machine whose disk only its node can use stays there, and every way of asking says why.
func TestClaimsDecideMigration(t *testing.T) {
	j := start(t)
	j.claim("own", "ReadWriteOnce", "local", "16Mi")
	j.kubectlIn(j.demo("fixed", "--network", "pod", "--volume-pvc", "src:own"), "apply", "-f", "-")
	j.kubectl("wait", "vmi/fixed", "--for", "create", "--timeout", "60s")
	j.kubectl("wait", "vmi/fixed", "--for", `jsonpath={.status.conditions[?(@.type=="LiveMigratable")].status}=False`, "--timeout", "90s")
	const why = "cannot migrate VMI: PVC own is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)"
	condition := func(field string) string {
		return j.kubectl("get", "vmi", "fixed", "-o", `jsonpath={.status.conditions[?(@.type=="LiveMigratable")].`+field+`}`)
	}
	j.want("the condition's reason", condition("reason"), "DisksNotLiveMigratable")
	j.want("the condition's message", condition("message"), why)
	if r := j.try("", "migrate", "fixed", "--dry-run"); r.Code != 5 || !strings.Contains(r.Stdout, "own") || !strings.Contains(r.Stdout, "cure: ") {
		t.Errorf("the dry run: %+v", r)
	}
	if r := j.try("", "migrate", "fixed"); r.Code == 0 || !strings.Contains(r.Stderr, "PVC own is not shared") {
		t.Errorf("migrate: %+v", r)
	}
	migration := `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstanceMigration","metadata":{"name":"m"},"spec":{"vmiName":"fixed"}}`
	if r := j.kubectlTry(migration, "create", "-f", "-"); r.Code == 0 || !strings.Contains(r.Stderr, "Cannot migrate VMI, Reason: DisksNotLiveMigratable, Message: "+why) {
		t.Errorf("a migration made by hand: %+v", r)
	}
	if left := j.kubectl("get", "vmim", "-o", "name"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// TestImmovableMachinesAreRefused: who wants a machine moved when its node is emptied hears at once that it never can be.
func TestImmovableMachinesAreRefused(t *testing.T) {
	j := start(t)
	machine := func(mode, strategy string) string {
		name := "own-" + strings.ToLower(mode)
		return j.movable(name, strategy, "--network", "pod", "--run-strategy", "Halted",
			"--volume-import", "type:blank,size:16Mi,name:"+name, "--access-mode", mode)
	}
	r := j.kubectlTry(machine("ReadWriteOnce", "LiveMigrate"), "apply", "-f", "-")
	if r.Code == 0 || !strings.Contains(r.Stderr, "is not ReadWriteMany, so that two nodes cannot use it at once; use LiveMigrateIfPossible or None") {
		t.Errorf("a machine that never can move: %+v", r)
	}
	j.kubectlIn(machine("ReadWriteOnce", "LiveMigrateIfPossible"), "apply", "-f", "-")
	j.kubectlIn(machine("ReadWriteMany", "LiveMigrate"), "apply", "-f", "-")

	// The same with a claim that is there already.
	fixed := func(strategy string) string {
		return j.movable("fixed", strategy, "--run-strategy", "Halted", "--volume-pvc", "src:root")
	}
	j.kubectlIn(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"root"},"spec":{"accessModes":["ReadWriteOnce"],
"resources":{"requests":{"storage":"16Mi"}}}}`, "apply", "-f", "-")
	r = j.kubectlTry(fixed("LiveMigrate"), "apply", "-f", "-")
	if r.Code == 0 || !strings.Contains(r.Stderr, "claim root is not ReadWriteMany, so that two nodes cannot use it at once; use LiveMigrateIfPossible or None") {
		t.Errorf("a machine on a claim of one node: %+v", r)
	}
	j.kubectlIn(fixed("LiveMigrateIfPossible"), "apply", "-f", "-")
}

// TestSharedFilesMove: a disk that is a file on a claim which both nodes have mounted moves with nothing copied.
func TestSharedFilesMove(t *testing.T) {
	j := start(t)
	j.kubectlIn(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"files"},"spec":{"accessModes":["ReadWriteMany"],
"storageClassName":"shared","volumeMode":"Filesystem","resources":{"requests":{"storage":"32Mi"}}}}`, "apply", "-f", "-")
	j.boot("mover", "--network", "pod", "--volume-pvc", "src:files")
	from, boot := j.node("mover"), j.bootID("mover")
	j.kubectl("wait", "vmi/mover", "--for", `jsonpath={.status.conditions[?(@.type=="LiveMigratable")].status}=True`, "--timeout", "30s")
	// The claim's is the small disk.
	j.pipe("\nd=/dev/$(cd /sys/block; for s in sd*/size; do [ $(cat $s) -lt 65537 ] && echo ${s%/*}; done | head -n1); "+
		"echo shared''-mark | dd of=$d bs=512 seek=9 conv=sync,fsync 2>/dev/null; echo writ''ten $d\n", "console", "mover", "--timeout", "20s")
	j.awaitConsole("mover", "written /dev/sd")
	j.virtctl("migrate", "mover", "--wait", "--timeout", "90s")
	if to := j.node("mover"); to == from {
		t.Errorf("the machine is still on %s", to)
	}
	j.want("the guest's boot", j.bootID("mover"), boot)
	if out := j.pipe("\ndd if=$d bs=512 skip=9 count=1 iflag=direct 2>/dev/null; echo\n", "console", "mover", "--timeout", "20s"); !strings.Contains(out, "shared-mark") {
		t.Errorf("the guest does not find on the shared disk what it wrote before it moved:\n%s", out)
	}
}
