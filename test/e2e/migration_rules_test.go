//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// policy is a MigrationPolicy for machines with labels, until the test ends.
func (j *journey) policy(name, speed, labels string, settings string) {
	j.Helper()
	j.kubectlIn(fmt.Sprintf(`{"apiVersion":"migrations.kubevirt.io/v1alpha1","kind":"MigrationPolicy","metadata":{"name":%q},
"spec":{"bandwidthPerMigration":%q,"selectors":{"virtualMachineInstanceSelector":{%s}}%s}}`, name, speed, labels, settings), "apply", "-f", "-")
	j.Cleanup(func() { j.kubectl("delete", "migrationpolicy", name) })
}

// TestMigrationsWaitTheirTurn: no more guests leave a node, and no more move in the cluster, than is allowed; of those that wait the more
// urgent one goes first. Of two policies that match, the one that names more labels counts.
func TestMigrationsWaitTheirTurn(t *testing.T) {
	j := start(t)
	own := fmt.Sprintf("%q:%q", "e2e", j.namespace)
	j.policy(j.namespace+"-broad", "1Gi", own, "")
	j.policy(j.namespace+"-narrow", "1Mi", own+`,"tier":"db"`, "")
	limit := func(cluster, node int) {
		t.Helper()
		(&traveller{journey: j}).settle(fmt.Sprintf(`{"parallelMigrationsPerCluster":%d,"parallelOutboundMigrationsPerNode":%d}`, cluster, node))
	}
	limit(5, 1)
	names := []string{"first", "late", "asked", "urgent"}
	other := ""
	for _, name := range names {
		j.kubectlIn(j.demo(name, "--network", "pod"), "apply", "-f", "-")
		if name == "first" {
			j.virtctl("wait", name, "--for", "running", "--timeout", "60s")
			other = j.kubectl("get", "nodes", "--field-selector", "metadata.name!="+j.node(name), "-o", "jsonpath={.items[0].metadata.name}")
			j.kubectl("cordon", other)
			j.Cleanup(func() { j.kubectl("uncordon", other) })
		}
	}
	for _, name := range names {
		j.virtctl("wait", name, "--for", "running", "--timeout", "60s")
		j.awaitConsole(name, "Welcome to the demo guest")
		j.kubectl("label", "vmi", name, "e2e="+j.namespace, "tier=db")
	}
	j.kubectl("uncordon", other)
	// Only the platform may say how urgent a migration is.
	move := func(name, priority string) {
		t.Helper()
		j.kubectlIn(fmt.Sprintf(`{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstanceMigration","metadata":{"name":%[1]q},
"spec":{"vmiName":%[1]q,"priority":%[2]q}}`, name, priority), "create", "-f", "-", "--as", "system:serviceaccount:kubevirt:kubevirt-controller")
	}
	phase := func(name, want string) { t.Helper(); j.awaitField("vmim/"+name, ".status.phase", want, stepTime) }
	waits := func(name string) {
		t.Helper()
		j.want("the phase of "+name, j.kubectl("get", "vmim", name, "-o", "jsonpath={.status.phase}"), "Pending")
	}
	move("first", "user-triggered")
	phase("first", "Running")
	j.want("the policy", j.kubectl("get", "vmi", "first", "-o", "jsonpath={.status.migrationState.migrationPolicyName}"), j.namespace+"-narrow")
	for name, priority := range map[string]string{"late": "system-maintenance", "asked": "user-triggered", "urgent": "system-critical"} {
		move(name, priority)
		phase(name, "Pending")
	}

	limit(2, 5)
	phase("urgent", "Running")
	waits("asked")
	waits("late")
	limit(3, 5)
	phase("asked", "Running")
	waits("late")
	limit(4, 5)
	phase("late", "Running")
	j.kubectl("delete", "vmim", "--all", "--timeout", "90s")
}

// TestEvacuationBacksOff: an evacuation whose migration has failed tries again after 20 seconds, and not at once.
func TestEvacuationBacksOff(t *testing.T) {
	j := start(t)
	j.policy(j.namespace, "2Mi", fmt.Sprintf("%q:%q", "e2e", j.namespace), "")
	j.kubectlIn(j.movable("mover", "LiveMigrate", "--network", "pod"), "apply", "-f", "-")
	j.virtctl("wait", "mover", "--for", "running", "--timeout", "60s")
	j.awaitConsole("mover", "Welcome to the demo guest")
	j.kubectl("label", "vmi", "mover", "e2e="+j.namespace)
	if r := j.evict("mover"); r.Code == 0 || !strings.Contains(r.Stderr, "Eviction triggered evacuation of VMI") {
		t.Fatalf("%+v", r)
	}
	// phase waits for a migration in a phase, of another name than the one before, and gives its name.
	phase := func(want, before string) (name string) {
		t.Helper()
		reached := func(line string) bool {
			name, line, _ = strings.Cut(line, " ")
			return line == want && name != before
		}
		if !j.watch(reached, "{.metadata.name} {.status.phase}", "vmim") {
			t.Fatalf("no migration but %q is %s", before, want)
		}
		return name
	}
	entered := func(name, phase string) time.Time {
		t.Helper()
		said := j.kubectl("get", "vmim", name, "-o",
			fmt.Sprintf(`jsonpath={.status.phaseTransitionTimestamps[?(@.phase==%q)].phaseTransitionTimestamp}`, phase))
		at, err := time.Parse(time.RFC3339, said)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	failed := phase("Running", "")
	j.kubectl("delete", "pod", "--grace-period", "0", "--force",
		j.kubectl("get", "vmi", "mover", "-o", "jsonpath={.status.migrationState.targetPod}"))
	next := phase("Running", failed)
	if wait := entered(next, "Scheduling").Sub(entered(failed, "Failed")); wait < 20*time.Second || wait > 30*time.Second {
		t.Errorf("the next migration begins %s after the failed one", wait)
	}
}

// slowedDown waits until the account of the migration says by how many per cent the guest is slowed down.
func (v *traveller) slowedDown() int {
	v.Helper()
	ctx, stop := context.WithTimeout(v.Context(), 100*time.Second)
	defer stop()
	cmd := shared.Program(ctx, "kubectl", "-n", v.namespace, "get", "vmi", v.name, "--watch", "-o",
		`jsonpath={.metadata.annotations.virtctl\.io/migration-progress}{"\n"}`)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		v.Fatal(err)
	}
	defer func() { stop(); _ = cmd.Wait() }()
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var account struct{ ThrottlePercent int }
		if last = lines.Text(); json.Unmarshal([]byte(last), &account) == nil && account.ThrottlePercent > 0 {
			return account.ThrottlePercent
		}
	}
	v.Fatalf("the guest is not slowed down: %s", last)
	return 0
}

// TestBusyGuestIsSlowedDown: a guest that may be slowed down is, when it changes its memory faster than that can be sent, and the account
// of its migration says by how much.
func TestBusyGuestIsSlowedDown(t *testing.T) {
	v := slow(t, "8Mi", `"allowAutoConverge":true`, `"completionTimeoutPerGiB":500`)
	v.pipe("\n(head -c 20000000 /dev/urandom > /tmp/noise; while :; do cat /tmp/noise > /tmp/copy; done) &\n", "console", v.name, "--timeout", "20s")
	v.depart()
	t.Logf("slowed down by %d %%", v.slowedDown())
	v.virtctl("migrate-cancel", v.name, "--wait", "--timeout", "60s")
	v.goesOn(v.from)
}
