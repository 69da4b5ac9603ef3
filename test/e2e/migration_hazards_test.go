//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

// settle changes how the cluster's migrations run until the test ends.
func (v *traveller) settle(migrations string) {
	v.Helper()
	change := func(to string) {
		v.kubectl("patch", "kubevirt", "-n", "kubevirt", "kubevirt", "--type", "merge", "-p", `{"spec":{"configuration":{"migrations":`+to+`}}}`)
	}
	v.Cleanup(func() { change("null") })
	change(migrations)
}

// cut drops what virt-handlers send each other through a node, for a time that ends by itself, or "" for ever.
func (v *traveller) cut(node, forTime string) {
	v.Helper()
	if forTime != "" {
		forTime = " timeout " + forTime
	}
	rules := fmt.Sprintf(`add table inet e2e
delete table inet e2e
add table inet e2e
add set inet e2e ports { type inet_service; flags timeout; }
add chain inet e2e forward { type filter hook forward priority -300; }
add rule inet e2e forward tcp dport @ports drop
add element inet e2e ports { 8188%s }`, forTime)
	v.kube("node", "exec", node, "--", "nft", rules)
	v.Cleanup(func() { v.kubeTry("node", "exec", node, "--", "nft", "add table inet e2e; delete table inet e2e") })
}

func (v *traveller) arrived() {
	v.Helper()
	v.kubectl("wait", "vmim", "--all", "--for", "jsonpath={.status.phase}=Succeeded", "--timeout", "150s")
	to := v.node(v.name)
	if to == v.from {
		v.Errorf("the machine is still on %s", to)
	}
	v.goesOn(to)
	v.from = to
	v.kubectl("delete", "vmim", "--all")
}

// TestNodesCutOff: a migration outlives a network that is gone for five seconds; where it stays away, the machine stays, too.
func TestNodesCutOff(t *testing.T) {
	v := slow(t, "4Mi")
	v.depart()
	v.cut(v.from, "5s")
	v.arrived()

	v.settle(`{"progressTimeout":8}`)
	v.depart()
	v.cut(v.from, "")
	v.stayed("progressTimeout")
}

// replaced has every component start anew, as after an upgrade. Those that others need longer end when they are not needed any more.
func (j *journey) replaced() {
	j.Helper()
	platform := &journey{T: j.T, namespace: "kubevirt"}
	const all = "kubevirt.io in (virt-handler,virt-api,virt-controller)"
	old := platform.pods(all)
	platform.kubectl(append([]string{"delete", "--wait=false"}, old...)...)
	platform.awaitSuccessors(all, old)
}

// TestComponentsReplacedDuringMigration: neither a new virt-handler on both nodes, nor new virt-apis and virt-controllers, nor new
// certificates end a migration.
func TestComponentsReplacedDuringMigration(t *testing.T) {
	v := slow(t, "4Mi")
	v.depart()
	v.replaced()
	v.arrived()

	v.depart()
	v.newCertificates("kubevirt-virt-handler-server-certs", "kubevirt-virt-handler-migration-client-certs")
	v.arrived()
}

// newCertificates replaces certificates of the platform by new ones.
func (j *journey) newCertificates(secrets ...string) {
	j.Helper()
	platform := &journey{T: j.T, namespace: "kubevirt"}
	platform.kubectl(append([]string{"delete", "secret"}, secrets...)...)
	for _, name := range secrets {
		platform.kubectl("wait", "secret/"+name, "--for", "create", "--timeout", "60s")
	}
}

// TestComponentsReplacedAfterMigrations: migrations that are over are nothing to components that start anew: the guest goes on.
func TestComponentsReplacedAfterMigrations(t *testing.T) {
	v := bootTraveller(start(t))
	for range 2 {
		v.virtctl("migrate", v.name, "--wait", "--timeout", "90s")
	}
	v.replaced()
	v.goesOn(v.from)
	// The new virt-controller has looked at all migrations when it has finished one of its own.
	v.virtctl("migrate", v.name, "--wait", "--timeout", "90s")
	v.goesOn(v.node(v.name))
}

// TestSourceNodeSwitchedOff: a guest whose node loses power while it moves is started again, once.
func TestSourceNodeSwitchedOff(t *testing.T) {
	v := slow(t, "2Mi")
	v.depart()
	v.kube("node", "kill", v.from)
	v.kube("node", "start", v.from)
	v.kubectl("wait", "vmim", "--all", "--for", "jsonpath={.status.phase}=Failed", "--timeout", "120s")
	v.virtctl("wait", v.name, "--for", "running", "--timeout", "120s")
	v.awaitConsole(v.name, "Welcome to the demo guest")
	if n := len(processes("guest=" + v.namespace + "_" + v.name + ",")); n != 1 {
		t.Errorf("%d QEMUs run the guest", n)
	}
	if boot := v.bootID(v.name); boot == v.boot {
		t.Errorf("the guest is still in the boot %s, which its node's memory was lost with", boot)
	}
}

// TestStoppedDuringMigration: a machine that is stopped while it moves is off, on both nodes.
func TestStoppedDuringMigration(t *testing.T) {
	v := slow(t, "2Mi")
	v.depart()
	v.virtctl("stop", v.name, "--wait", "--timeout", "90s")
	v.kubectl("wait", "pods", "-l", "kubevirt.io=virt-launcher", "--for", "delete", "--timeout", "60s")
	if left := processes("guest=" + v.namespace + "_" + v.name + ","); len(left) != 0 {
		t.Errorf("QEMUs are left: %v", left)
	}
	v.kubectl("wait", "vmim", "--all", "--for", "jsonpath={.status.phase}=Failed", "--timeout", "60s")
}

// TestBusyGuestMoves: a guest that changes its memory faster than it can be sent moves if it may be disturbed: it is stopped until
// the rest has been sent, or goes on at once on the new node and has the rest fetched.
func TestBusyGuestMoves(t *testing.T) {
	for mode, setting := range map[string]string{"Paused": `"allowWorkloadDisruption":true`, "PostCopy": `"allowPostCopy":true`} {
		t.Run(mode, func(t *testing.T) {
			j := start(t)
			// Launchers have what post-copy needs only if the cluster allows it when they are started.
			(&traveller{journey: j}).settle("{" + setting + `,"completionTimeoutPerGiB":6,"bandwidthPerMigration":"8Mi"}`)
			v := bootTraveller(j)
			v.pipe("\n(while :; do head -c 30000000 /dev/urandom > /tmp/noise; done) &\n", "console", v.name, "--timeout", "20s")
			v.depart()
			v.arrived()
			v.want("how it moved", v.kubectl("get", "vmi", v.name, "-o", "jsonpath={.status.migrationState.mode}"), mode)
		})
	}
}

// TestFullNode: the dry run says that the other node has no room, and a migration there waits and can be taken back.
func TestFullNode(t *testing.T) {
	v := slow(t, "64Mi")
	other := v.kubectl("get", "nodes", "--field-selector", "metadata.name!="+v.from, "-o", "jsonpath={.items[0].metadata.name}")
	size, err := resource.ParseQuantity(v.kubectl("get", "node", other, "-o", "jsonpath={.status.allocatable.memory}"))
	if err != nil {
		t.Fatal(err)
	}
	// Less than a launcher with a guest of 128 MiB needs is left, more than the platform's own pods ask for.
	size.Sub(resource.MustParse("450Mi"))
	v.kubectlIn(fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"greedy"},"spec":{"nodeName":%q,"containers":[{"name":"c",
"image":"localhost/virtctl/virt-launcher:%s","imagePullPolicy":"Never","command":["/bin/sh","-c","trap 'exit 0' TERM; sleep infinity & wait"],
"resources":{"requests":{"memory":%q}}}]}}`, other, shared.Tag, size.String()), "apply", "-f", "-")
	v.kubectl("wait", "pod/greedy", "--for", "condition=Ready", "--timeout", "60s")
	if r := v.try("", "migrate", v.name, "--dry-run"); r.Code != 5 || !strings.Contains(r.Stdout, "memory") {
		t.Errorf("the dry run: %+v", r)
	}
	v.refused(6, "is Scheduling", "migrate", v.name, "--wait", "--timeout", "6s")
	v.virtctl("migrate-cancel", v.name, "--wait", "--timeout", "60s")
	v.goesOn(v.from)
}
