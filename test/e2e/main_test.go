//go:build e2e

// Package e2e walks the users' journeys on a real cluster of this machine with real virtual machines.
//
// It starts an embedded cluster of its own, beside any other, and takes it away at the end. VIRTCTL_E2E_KEEP=1 leaves it running and
// uses it again next time.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"virtctl/test/cluster"
)

// shared is the cluster all tests share.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	shared, err = cluster.New(cluster.Settings{
		Instance: "virtctl-e2e", Nodes: 2, Port: 8443, Bridge: "vkbre2e", NodeCIDR: "10.220.0.0/24", NodeCIDR6: "fd00:10:220::/64",
		PodCIDR: "10.250.0.0/16", PodCIDR6: "fd00:10:250::/56", ServiceCIDR: "10.98.0.0/16", ServiceCIDR6: "fd00:10:98::/112",
	})
	if err != nil {
		return 1, err
	}
	keep := os.Getenv("VIRTCTL_E2E_KEEP") != ""
	steps := []func() error{shared.Up, shared.Load, shared.Install}
	if !keep {
		// What a run that was cut off left behind must not become part of this one.
		steps = append([]func() error{shared.Down}, steps...)
		defer func() { err = errors.Join(err, shared.Down()) }()
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

// command runs one of the project's programs against the cluster, as a CI pipeline would.
func command(ctx context.Context, stdin, program string, args ...string) cluster.Result {
	return shared.Command(ctx, stdin, program, args...)
}
