//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/migrationprogress"
	"virtctl/test/cluster"
)

const drained = 5

// migrations measures live migrations and a drain on a cluster of two nodes, which is started for them alone.
func (b *bench) migrations() {
	two, err := cluster.New(cluster.Settings{
		Instance: "virtctl-bench2", Nodes: 2, Port: 10443, Bridge: "vkbrbench2", NodeCIDR: "10.221.1.0/24", NodeCIDR6: "fd00:10:221:1::/64",
		PodCIDR: "10.247.0.0/16", PodCIDR6: "fd00:10:247::/56", ServiceCIDR: "10.97.0.0/16", ServiceCIDR6: "fd00:10:97::/112",
	})
	b.check(err)
	own := *b
	own.cluster = two
	if os.Getenv("VIRTCTL_BENCH_KEEP") == "" {
		defer func() { b.check(two.Down()) }()
	}
	for _, step := range []func() error{two.Up, two.Load, two.Install} {
		b.check(step())
	}
	config, err := clientcmd.BuildConfigFromFlags("", two.Kubeconfig)
	b.check(err)
	own.client, err = client.New(config)
	b.check(err)
	own.moves()
	own.drain()
}

// movable is a machine that moves when its node is emptied.
func (b *bench) movable(namespace, name string) *kubevirtv1.VirtualMachine {
	b.Helper()
	vm := b.vm(namespace, name)
	strategy := kubevirtv1.EvictionStrategyLiveMigrate
	spec := &vm.Spec.Template.Spec
	spec.EvictionStrategy = &strategy
	spec.Networks = []kubevirtv1.Network{*kubevirtv1.DefaultPodNetwork()}
	spec.Domain.Devices.Interfaces = []kubevirtv1.Interface{*kubevirtv1.DefaultMasqueradeNetworkInterface()}
	return vm
}

func (b *bench) bootMovable(namespace string, names ...string) {
	b.Helper()
	for _, name := range names {
		_, err := b.client.VMs(namespace).Create(b.ctx, b.movable(namespace, name), false)
		b.check(err)
	}
	for _, name := range names {
		b.virtctl("-n", namespace, "wait", name, "--for", "ready", "--timeout", "2m")
		b.awaitConsole(namespace, name, loginPrompt)
	}
}

// moves measures an idle machine's way to the other node and back, from the start of the command.
func (b *bench) moves() {
	namespace := b.namespace("bench-migration")
	b.bootMovable(namespace, "web")
	b.virtctl("-n", namespace, "migrate", "web", "--wait") // the first one warms the other node up
	floor, from, to := b.bareGuest(), "node02", "node01"
	var wall, memory, downtime, bareMemory, bareDowntime []float64
	began := time.Now()
	// They take turns, so that whatever else the machine does meets both.
	for range samples {
		took, stood := floor.move(from, to)
		bareMemory, bareDowntime, from, to = append(bareMemory, took), append(bareDowntime, stood), to, from
		start := time.Now()
		var result struct {
			Migration string `json:"migration"`
			Phase     string `json:"phase"`
		}
		b.check(json.Unmarshal([]byte(b.virtctl("-n", namespace, "migrate", "web", "--wait", "-o", "json")), &result))
		wall = append(wall, time.Since(start).Seconds())
		vmi, err := b.client.VMIs(namespace).Get(b.ctx, "web")
		b.check(err)
		account := migrationprogress.Of(vmi.Annotations, vmi.Status.MigrationState.MigrationUID)
		if account == nil || result.Phase != string(kubevirtv1.MigrationSucceeded) {
			b.Fatalf("migration %+v left no account in %v", result, vmi.Annotations)
		}
		memory = append(memory, float64(account.ElapsedMillis)/1000)
		downtime = append(downtime, float64(account.DowntimeMillis)/1000)
	}
	b.window(2 * time.Second) // the last one's pod goes
	written := b.audited(func(w write) bool { return w.Object.Namespace == namespace && w.At.After(began) })
	b.table.add(figure{name: "virtctl migrate → Succeeded", promise: 4, unit: seconds, values: wall, upstream: "8.7 s"})
	b.table.add(figure{name: "migration: memory phase", promise: 1.5, unit: seconds, values: memory, floor: bareMemory, floorName: "libvirt to libvirt", upstream: "3 s"})
	b.table.add(figure{name: "migration: the guest stands still", promise: 0.15, unit: seconds, values: downtime, floor: bareDowntime, floorName: "libvirt to libvirt", upstream: "0.7 to 1.2 s"})
	b.table.add(figure{name: "API writes per migration", promise: 15, unit: count, values: []float64{float64(len(written)) / samples}})
	b.table.note("API writes of %d migrations: %s", samples, tally(written))
}

// drain measures how long a node with five machines takes to be empty of them.
func (b *bench) drain() {
	namespace := b.namespace("bench-drain")
	b.virtctl("node", "cordon", "node02")
	var names []string
	for i := range drained {
		names = append(names, nth(i))
	}
	b.bootMovable(namespace, names...)
	b.virtctl("node", "uncordon", "node02")
	start := time.Now()
	b.virtctl("node", "drain", "node01", "--shut-down", "--timeout", "2m")
	b.table.add(figure{name: fmt.Sprintf("node drain, %d VMs", drained), promise: 30, unit: seconds, values: since(start)})
	b.virtctl("node", "uncordon", "node01")
}
