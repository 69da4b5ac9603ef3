package plan

import (
	"testing"

	"virtctl/embedded/internal/options"
)

// Two nodes with the same address or pod range would lose each other's traffic.
func TestPlan(t *testing.T) {
	o := options.Default()
	o.Nodes = options.MaxNodes
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{c.Gateway[0].String(): "gateway", c.Gateway[1].String(): "gateway6"}
	for _, n := range c.Nodes {
		for _, p := range append(append(n.PodCIDRs[:0:0], n.PodCIDRs...), n.IPs...) {
			if other, taken := seen[p.String()]; taken {
				t.Errorf("%s has %s, which %s has too", n.Name, p, other)
			}
			seen[p.String()] = n.Name
		}
		for i, p := range n.PodCIDRs {
			if !c.PodCIDRs[i].Contains(p.Addr()) || p != p.Masked() {
				t.Errorf("%s: pod range %s is not a network inside %s", n.Name, p, c.PodCIDRs[i])
			}
		}
	}
	for _, want := range []struct{ got, want string }{
		{c.Gateway[0].String(), "10.213.0.1/24"},
		{c.Gateway[1].String(), "fd00:10:213::1/64"},
		{c.APIService[0].String(), "10.96.0.1"},
		{c.DNSService[0].String(), "10.96.0.10"},
		{c.DNSService[1].String(), "fd00:10:96::a"},
		{c.Nodes[0].IPs[0].String(), "10.213.0.11/24"},
		{c.Nodes[1].IPs[1].String(), "fd00:10:213::c/64"},
		{c.Nodes[0].PodCIDRs[0].String(), "10.244.1.0/24"},
		{c.Nodes[1].PodCIDRs[1].String(), "fd00:10:244:2::/64"},
		{c.Nodes[98].PodCIDRs[0].String(), "10.244.99.0/24"},
	} {
		if want.got != want.want {
			t.Errorf("got %s, want %s", want.got, want.want)
		}
	}
}

// An IPv4-only machine still gets a cluster.
func TestPlanSingleStack(t *testing.T) {
	o := options.Default()
	o.PodCIDR6, o.ServiceCIDR6, o.NodeCIDR6 = "", "", ""
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Gateway) != 1 || len(c.Nodes[0].IPs) != 1 || len(c.Nodes[0].PodCIDRs) != 1 {
		t.Errorf("single-stack plan has IPv6 addresses: %+v", c)
	}
	if _, err := c.Node("node07"); err == nil {
		t.Error("node07 of a one-node plan was found")
	}
}
