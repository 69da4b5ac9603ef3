//go:build e2e

package e2e

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// neighbour is another machine in this machine's network: a network namespace at the other end of a cable.
type neighbour struct {
	*testing.T
	namespace string
	// host is this machine's address as the neighbour knows it.
	host string
}

func newNeighbour(t *testing.T) *neighbour {
	t.Helper()
	n := &neighbour{T: t, namespace: "e2e-neighbour", host: "198.51.100.1"}
	n.ip("netns", "add", n.namespace)
	t.Cleanup(func() { n.ip("netns", "del", n.namespace) })
	n.ip("link", "add", "e2e-cable", "type", "veth", "peer", "name", "cable", "netns", n.namespace)
	n.ip("addr", "add", n.host+"/30", "dev", "e2e-cable")
	n.ip("link", "set", "e2e-cable", "up")
	n.ip("-n", n.namespace, "addr", "add", "198.51.100.2/30", "dev", "cable")
	n.ip("-n", n.namespace, "link", "set", "cable", "up")
	// Whoever shares a network with this machine can send it packets for anybody.
	n.ip("-n", n.namespace, "route", "add", "default", "via", n.host)
	return n
}

func (n *neighbour) ip(args ...string) {
	n.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// calls tells what becomes of a connection to an address.
func (n *neighbour) calls(address string) error {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), 20*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		n.Fatal(err)
	}
	return exec.CommandContext(ctx, "ip", "netns", "exec", n.namespace, "bash", "-c", "exec 3<>/dev/tcp/"+host+"/"+port).Run()
}

// TestClosedToOtherMachines: an embedded cluster that is not exposed is this machine's own.
func TestClosedToOtherMachines(t *testing.T) {
	j := start(t)
	n := newNeighbour(t)
	open, err := net.Listen("tcp", n.host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := n.calls(open.Addr().String()); err != nil {
		t.Fatalf("the neighbour does not reach this machine at all: %v", err)
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(j.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	node := j.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}")
	node, _, _ = strings.Cut(node, " ")
	pod := j.kubectl("-n", "kubevirt", "get", "pods", "-l", "kubevirt.io=virt-api", "-o", "jsonpath={.items[0].status.podIP}")
	for what, address := range map[string]string{
		"API server":                  net.JoinHostPort(n.host, port),
		"API server, from the bridge": net.JoinHostPort(hostAddress(), port),
		"kubelet":                     net.JoinHostPort(node, strconv.Itoa(kubeletPort)),
		"pod":                         net.JoinHostPort(pod, strconv.Itoa(podPort)),
	} {
		if what != "API server" {
			// This machine itself reaches it: the address is right.
			here, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			here.Close()
		}
		if err := n.calls(address); err == nil {
			t.Errorf("another machine can call: %s at %s", what, address)
		}
	}
}

// Ports that are open inside the cluster.
const (
	kubeletPort = 10250
	podPort     = 8443
)
