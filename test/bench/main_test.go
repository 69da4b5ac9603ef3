//go:build bench

// Package bench measures the figures of docs/promises.md on an embedded cluster of its own, each beside what the same machine needs for
// the same thing without the platform, and prints one table.
//
// A figure that misses its promise fails the run only with VIRTCTL_BENCH_STRICT=1: machines are noisy. VIRTCTL_BENCH_KEEP=1 leaves the
// cluster running.
package bench

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"virtctl/internal/client"
	"virtctl/test/cluster"
)

// stepTime bounds one step: a cluster that takes longer is broken.
const stepTime = 10 * time.Minute

// bench is what the steps share.
type bench struct {
	*testing.T
	ctx     context.Context
	cluster *cluster.Cluster
	client  *client.Client
	table   *table
}

// instance is the name of the cluster that figures are taken on.
const instance = "virtctl-bench"

// TestFigures takes the figures in an order in which none disturbs another: the platform's idle memory before ten machines at once.
func TestFigures(t *testing.T) {
	c, err := cluster.New(cluster.Settings{
		Instance: instance, Nodes: 1, Port: 9443, Bridge: "vkbrbench", NodeCIDR: "10.221.0.0/24", NodeCIDR6: "fd00:10:221::/64",
		PodCIDR: "10.251.0.0/16", PodCIDR6: "fd00:10:251::/56", ServiceCIDR: "10.99.0.0/16", ServiceCIDR6: "fd00:10:99::/112",
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, cluster: c, table: &table{started: machine()}}
	t.Cleanup(func() { b.finish() })
	steps := []struct {
		name string
		// vital steps are those without which no later one makes sense.
		vital bool
		run   func(*bench)
	}{
		{"sizes", false, (*bench).sizes},
		{"cluster", true, (*bench).bringUp},
		{"embedded", false, (*bench).idleCluster},
		{"install", true, (*bench).install},
		{"start", false, (*bench).starts},
		{"power", false, (*bench).power},
		{"writes", false, (*bench).writes},
		{"memory", false, (*bench).idleMemory},
		{"disks", false, (*bench).disks},
		{"cli", false, (*bench).cli},
		{"many", false, (*bench).many},
		{"scale", false, (*bench).scale},
		{"uninstall", false, (*bench).uninstall},
		{"migrations", false, (*bench).migrations},
	}
	for _, step := range steps {
		ok := t.Run(step.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), stepTime)
			defer cancel()
			own := *b
			own.T, own.ctx = t, ctx
			step.run(&own)
			b.client = own.client
		})
		if !ok && step.vital {
			return
		}
	}
}

// finish prints the table, judges it if asked to, and takes the cluster away.
func (b *bench) finish() {
	fmt.Print(b.table.String())
	if missed := b.table.missed(); len(missed) > 0 && os.Getenv("VIRTCTL_BENCH_STRICT") == "1" {
		b.Errorf("promises missed: %v", missed)
	}
	if os.Getenv("VIRTCTL_BENCH_KEEP") != "" {
		return
	}
	b.check(b.cluster.Down())
}

// bringUp starts the cluster and gives it the images. The time counts only for a cluster that did not run.
func (b *bench) bringUp() {
	_, err := os.Stat(b.cluster.Kubeconfig)
	start := time.Now()
	b.check(b.cluster.Up())
	if err != nil {
		b.table.add(figure{name: "embedded cluster: nothing → node ready", promise: 15, unit: seconds, values: since(start)})
	}
	b.check(b.cluster.Load())
	config, err := clientcmd.BuildConfigFromFlags("", b.cluster.Kubeconfig)
	b.check(err)
	b.client, err = client.New(config)
	b.check(err)
}

func (b *bench) install() {
	start := time.Now()
	b.check(b.cluster.Install())
	b.table.add(figure{name: "virtctl install, images present", promise: 25, unit: seconds, values: since(start), upstream: "97 s"})
}

// uninstall comes last and removes no machine: those of a step that failed make it refuse, for stopping them is not what it measures.
func (b *bench) uninstall() {
	start := time.Now()
	b.virtctl("uninstall", "--timeout", "3m")
	b.table.add(figure{name: "virtctl uninstall", promise: 15, unit: seconds, values: since(start), upstream: "30 s"})
}

// virtctl runs a command that must succeed and returns its data.
func (b *bench) virtctl(args ...string) string {
	b.Helper()
	return b.program("virtctl", "", args...)
}

func (b *bench) program(program, stdin string, args ...string) string {
	b.Helper()
	r := b.cluster.Command(b.ctx, stdin, program, args...)
	if r.Code != 0 {
		b.Fatalf("%s %v: exit code %d after %s\n%s%s", program, args, r.Code, r.Took, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func (b *bench) check(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func since(start time.Time) []float64 { return []float64{time.Since(start).Seconds()} }
