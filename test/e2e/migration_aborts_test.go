//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"slices"
	"testing"
)

// TestMigrationAbortedAnywhere: whenever a migration is given up, the machine goes on where it was and nothing is left of the attempt. The phases
// are those that a watch shows; one that has passed by the time the request arrives is aborted in the next.
func TestMigrationAbortedAnywhere(t *testing.T) {
	v := slow(t, "2Mi")
	for _, phase := range []string{"Pending", "Scheduling", "Scheduled", "PreparingTarget", "TargetReady", "Running"} {
		t.Run(phase, func(t *testing.T) {
			v.virtctl("migrate", v.name)
			reached := v.phaseReached(phase)
			v.kubectl("delete", "vmim", "--all", "--timeout", "60s")
			t.Logf("aborted in phase %s", reached)
			v.goesOn(v.from)
		})
	}
	v.kubectl("patch", "migrationpolicy", v.namespace, "--type", "merge", "-p", `{"spec":{"bandwidthPerMigration":"1Gi"}}`)
	to := v.other()
	v.virtctl("migrate", v.name, "--wait", "--timeout", "90s")
	v.goesOn(to)
}

// phaseReached waits until the migration is in a phase, or past it, and tells in which.
func (v *traveller) phaseReached(wanted string) string {
	v.Helper()
	order := []string{"", "Pending", "Scheduling", "Scheduled", "PreparingTarget", "TargetReady", "Running"}
	ctx, stop := context.WithTimeout(v.Context(), stepTime)
	defer stop()
	cmd := shared.Program(ctx, "kubectl", "-n", v.namespace, "get", "vmim", "--watch", "-o", `jsonpath={.status.phase}{"\n"}`)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		v.Fatal(err)
	}
	defer func() { stop(); _ = cmd.Wait() }()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if at := slices.Index(order, lines.Text()); at < 0 || at >= slices.Index(order, wanted) {
			return lines.Text()
		}
	}
	v.Fatalf("the migration never came to phase %s", wanted)
	return ""
}
