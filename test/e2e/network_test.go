//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// handlersReplaced changes something that virt-handler has to be started again for, and waits for that.
func (j *journey) handlersReplaced(change func()) {
	j.Helper()
	platform := &journey{T: j.T, namespace: "kubevirt"}
	const handlers = "kubevirt.io=virt-handler"
	old := platform.pods(handlers)
	change()
	platform.awaitSuccessors(handlers, old)
}

// received is how many bytes have come to a node over the network for migrations.
func (v *traveller) received(node string) (total uint64) {
	v.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", v.processOf("virt-handler", v.handler(node))))
	if err != nil {
		v.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if name, counters, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == "migration0" {
			if _, err := fmt.Sscan(counters, &total); err != nil {
				v.Fatal(err)
			}
			return total
		}
	}
	v.Fatalf("virt-handler of %s is not on the network for migrations:\n%s", node, table)
	return 0
}

// listen counts frames on a link of this machine until the test ends: all of them, and those with a text.
func (j *journey) listen(link, text string) (all, marked *atomic.Int64) {
	j.Helper()
	const everything = 0x0300 // ETH_P_ALL in network order
	card, err := net.InterfaceByName(link)
	if err != nil {
		j.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, everything)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: card.Index})
	}
	if err != nil {
		j.Fatal(err)
	}
	frames := os.NewFile(uintptr(fd), "frames")
	j.Cleanup(func() { _ = frames.Close() })
	all, marked = &atomic.Int64{}, &atomic.Int64{}
	go func() {
		frame := make([]byte, 1<<17)
		for {
			n, err := frames.Read(frame)
			if err != nil {
				return
			}
			all.Add(1)
			if bytes.Contains(frame[:n], []byte(text)) {
				marked.Add(1)
			}
		}
	}()
	return all, marked
}

// TestMigrationNetwork: guests move over the network that the cluster has for that, as fast as allowed, encrypted unless that is switched
// off; a network that does not exist is said to be missing and keeps nobody from moving.
func TestMigrationNetwork(t *testing.T) {
	const mark, limit = "seen-on-the-wire", 8 << 20
	v := &traveller{journey: start(t)}
	change := func(migrations string) {
		t.Helper()
		v.kubectl("patch", "kubevirt", "-n", "kubevirt", "kubevirt", "--type", "merge", "-p", `{"spec":{"configuration":{"migrations":`+migrations+`}}}`)
	}
	v.secondNetwork()
	v.Cleanup(func() { v.handlersReplaced(func() { change("null") }) })

	change(`{"network":"lan-migrations","bandwidthPerMigration":"8Mi"}`)
	v.kubectl("wait", "kubevirt/kubevirt", "-n", "kubevirt", "--for", `jsonpath={.status.conditions[?(@.type=="Degraded")].reason}=MigrationNetworkMissing`, "--timeout", "30s")
	said := v.kubectl("get", "kubevirt", "-n", "kubevirt", "kubevirt", "-o", `jsonpath={.status.conditions[?(@.type=="Degraded")].message} {.status.conditions[?(@.type=="Available")].status}`)
	v.want("what is said of a missing network", said, "spec.configuration.migrations.network: there is no NetworkAttachmentDefinition "+
		"kubevirt/lan-migrations; migrations stay on the pod network until it is created True")
	v = bootTraveller(v.journey)
	v.pipe("\nyes "+mark+" | head -c 4000000 > /tmp/marked\n", "console", v.name, "--timeout", "20s")
	v.handlersReplaced(func() { v.definition("kubevirt", "lan-migrations", "") })
	v.kubectl("wait", "kubevirt/kubevirt", "-n", "kubevirt", "--for", "condition=Degraded=False", "--timeout", "30s")

	all, marked := v.listen(shared.Bridge()+"-l1", mark)
	before := v.received(v.other())
	account := v.crosses()
	if got := v.received(v.from) - before; got < account.ProcessedBytes {
		t.Errorf("%d bytes came over the network for migrations, %d were sent", got, account.ProcessedBytes)
	}
	if rate := float64(account.ProcessedBytes) / (float64(account.ElapsedMillis) / 1000); rate > 1.25*limit {
		t.Errorf("%.0f bytes a second were sent, %d are allowed", rate, limit)
	}
	if all.Load() < 1000 || marked.Load() > 0 {
		t.Errorf("of %d frames on the wire %d show the guest's memory", all.Load(), marked.Load())
	}

	change(`{"network":"lan-migrations","disableTLS":true}`)
	v.crosses()
	if marked.Load() == 0 {
		t.Errorf("the guest's memory is not seen in %d frames, though encryption is off", all.Load())
	}
}

// progress is the account of a migration.
type progress struct{ ProcessedBytes, ElapsedMillis uint64 }

// crosses moves the machine over the second network.
func (v *traveller) crosses() (account progress) {
	v.Helper()
	v.depart()
	at := v.kubectl("get", "vmi", v.name, "-o", "jsonpath={.status.migrationState.targetNodeAddress}")
	if !strings.HasPrefix(at, migrationAddresses) {
		v.Errorf("the guest was sent to %s, which is not on the network for migrations", at)
	}
	v.kubectl("wait", "vmim", "--all", "--for", "jsonpath={.status.phase}=Succeeded", "--timeout", "120s")
	raw := v.kubectl("get", "vmi", v.name, "-o", `jsonpath={.metadata.annotations.virtctl\.io/migration-progress}`)
	if err := json.Unmarshal([]byte(raw), &account); err != nil || account.ElapsedMillis == 0 {
		v.Errorf("the account of the migration: %v: %s", err, raw)
	}
	v.arrived()
	return account
}

// TestSecondCard: machines on a second network reach each other there, wherever they are, and keep their card when they move.
func TestSecondCard(t *testing.T) {
	j := start(t)
	j.secondNetwork()
	j.definition(j.namespace, "office", fmt.Sprintf(`{"cniVersion":"1.0.0","name":"lan-office","type":"bridge","bridge":%q}`, lanBridge))
	// One moves, the other stays: they are on one node and then on two, or the other way round.
	names, cards := []string{"one", "two"}, []string{"--network", "pod", "--network", "src:office,name:office"}
	j.kubectlIn(j.demo("one", cards...), "apply", "-f", "-")
	j.kubectlIn(pinned(j.demo("two", cards...), j.kubectl("get", "nodes", "-o", "jsonpath={.items[1].metadata.name}")), "apply", "-f", "-")
	for i, name := range names {
		j.virtctl("wait", name, "--for", "running", "--timeout", "60s")
		j.awaitConsole(name, "Welcome to the demo guest")
		j.logIn(name)
		j.ask(name, fmt.Sprintf("ip addr add 10.99.0.%d/24 dev eth1; ip link set eth1 up; ip -4 -o addr show eth1", i+1), "10.99.0.")
		status := j.kubectl("get", "vmi", name, "-o", `jsonpath={range .status.interfaces[*]}{.name} {.podInterfaceName} {.infoSource}{"\n"}{end}`)
		if !strings.Contains(status, "office") || strings.Count(status, "\n") < 1 {
			t.Errorf("the cards of %s in its status:\n%s", name, status)
		}
	}
	reach := func() {
		t.Helper()
		j.ask("one", "ping -c 1 -w 10 10.99.0.2", "64 bytes from 10.99.0.2")
	}
	reach()
	mac := func() string {
		return j.kubectl("get", "vmi", "one", "-o", `jsonpath={.status.interfaces[?(@.name=="office")].mac}`)
	}
	was, from := mac(), j.node("one")
	j.virtctl("migrate", "one", "--wait", "--timeout", "90s")
	if to := j.node("one"); to == from {
		t.Errorf("the machine is still on %s", to)
	}
	j.want("the second card's address", mac(), was)
	reach()
}

// ask types a command into a guest's console until the answer is there.
func (j *journey) ask(name, command, answer string) {
	j.Helper()
	if out := j.pipe("\n"+command+"\n", "console", name, "--timeout", "20s"); !strings.Contains(out, answer) {
		j.Fatalf("%s does not answer %q with %q:\n%s", name, command, answer, out)
	}
}
