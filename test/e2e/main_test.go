//go:build e2e

// Package e2e walks the users' journeys on a real cluster of this machine with real virtual machines.
//
// It starts an embedded cluster of its own, beside any other, and takes it away at the end. VIRTCTL_E2E_KEEP=1 leaves it running and
// uses it again next time. VIRTCTL_E2E_SLOT=1 to 9 gives it another name and other addresses, for several runs at once.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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
	settings, err := settings(os.Getenv("VIRTCTL_E2E_SLOT"))
	if err != nil {
		return 1, err
	}
	if shared, err = cluster.New(settings); err != nil {
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

// settings are the cluster's name and addresses: those of a slot do not meet another's.
func settings(slot string) (cluster.Settings, error) {
	if slot == "" {
		slot = "0"
	}
	n, err := strconv.ParseUint(slot, 10, 8)
	if err != nil || n > 9 {
		return cluster.Settings{}, fmt.Errorf("VIRTCTL_E2E_SLOT is %q, not 0 to 9", slot)
	}
	name := "e2e"
	if n > 0 {
		name += slot
	}
	return cluster.Settings{
		Instance: "virtctl-" + name, Nodes: 2, Port: 8443 + 20*int(n), Bridge: "vkbr" + name,
		NodeCIDR: fmt.Sprintf("10.220.%d.0/24", n), NodeCIDR6: fmt.Sprintf("fd00:10:220:%d::/64", n),
		PodCIDR: fmt.Sprintf("10.%d.0.0/16", 230+n), PodCIDR6: fmt.Sprintf("fd00:10:250:%d00::/56", n),
		ServiceCIDR: fmt.Sprintf("10.98.%d.0/24", n), ServiceCIDR6: fmt.Sprintf("fd00:10:98:%d::/112", n),
	}, nil
}

// hostAddress is this machine as the pods of the cluster see it: the gateway of its nodes.
func hostAddress() string { return strings.TrimSuffix(shared.NodeCIDR(), "0/24") + "1" }

// command runs one of the project's programs against the cluster, as a CI pipeline would.
func command(ctx context.Context, stdin, program string, args ...string) cluster.Result {
	return shared.Command(ctx, stdin, program, args...)
}
