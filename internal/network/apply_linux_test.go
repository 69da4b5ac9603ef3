package network

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	v1 "kubevirt.io/api/core/v1"
)

// podWithNetwork is a pod as a CNI plugin leaves it, and the world around it.
func podWithNetwork(t *testing.T) (pod, world *Namespace) {
	t.Helper()
	pod, world = newNamespace(t), newNamespace(t)
	veth(t, pod, "eth0", world, "host0")
	up(t, pod, "eth0", "10.244.0.5/24", "fd00:10:244::5/64")
	up(t, world, "host0", "10.244.0.1/24", "fd00:10:244::1/64")
	defaultRoute(t, pod, "10.244.0.1")
	defaultRoute(t, pod, "fd00:10:244::1")
	return pod, world
}

func planFor(t *testing.T, ns *Namespace, vmi *v1.VirtualMachineInstance) Plan {
	t.Helper()
	pod := must[Pod](t)(Inspect(ns))
	return must[Plan](t)(MakePlan(vmi, pod))
}

func apply(t *testing.T, ns *Namespace, plan Plan) *Result {
	t.Helper()
	r := must[*Result](t)(Apply(ns, plan))
	t.Cleanup(r.Close)
	return r
}

// Without this, nobody reaches a masqueraded guest, or it reaches nobody.
func TestMasqueradeCarriesTraffic(t *testing.T) {
	pod, world := podWithNetwork(t)
	vmi := testVMI(v1.InterfaceBindingMethod{Masquerade: &v1.InterfaceMasquerade{}})
	plan := planFor(t, pod, vmi)
	apply(t, pod, plan)
	guest := guestLeg(t, pod, "k6t-eth0", "10.0.2.2/24", "fd10:0:2::2/120")
	defaultRoute(t, guest, "10.0.2.1")
	defaultRoute(t, guest, "fd10:0:2::1")
	serve(t, guest, "tcp", ":8080")
	serve(t, world, "tcp", ":9090")
	for _, check := range []struct {
		what string
		from *Namespace
		addr string
		seen string
	}{
		{"in, IPv4", world, "10.244.0.5:8080", "10.244.0.1"},
		{"in, IPv6", world, "[fd00:10:244::5]:8080", "fd00:10:244::1"},
		{"out, IPv4", guest, "10.244.0.1:9090", "10.244.0.5"},
		{"out, IPv6", guest, "[fd00:10:244::1]:9090", "fd00:10:244::5"},
		{"the pod's loopback", pod, "127.0.0.1:8080", "10.0.2.1"},
	} {
		got, err := ask(t, check.from, check.addr)
		if err != nil {
			t.Errorf("%s: %v", check.what, err)
			continue
		}
		if ip := netip.MustParseAddr(got).Unmap().String(); ip != check.seen {
			t.Errorf("%s: the server saw %s, want %s", check.what, ip, check.seen)
		}
	}
}

// A VM that lists its ports must not expose others, and a guest must not reach the pod's loopback.
func TestMasqueradeKeepsOut(t *testing.T) {
	pod, world := podWithNetwork(t)
	vmi := testVMI(v1.InterfaceBindingMethod{Masquerade: &v1.InterfaceMasquerade{}})
	vmi.Spec.Domain.Devices.Interfaces[0].Ports = []v1.Port{{Port: 80}, {Port: 53, Protocol: "UDP"}}
	apply(t, pod, planFor(t, pod, vmi))
	guest := guestLeg(t, pod, "k6t-eth0", "10.0.2.2/24")
	defaultRoute(t, guest, "10.0.2.1")
	serve(t, guest, "tcp4", ":80")
	serve(t, guest, "tcp4", ":8080")
	serve(t, pod, "tcp4", "127.0.0.1:7070")
	if _, err := ask(t, world, "10.244.0.5:80"); err != nil {
		t.Errorf("listed port: %v", err)
	}
	if _, err := ask(t, world, "10.244.0.5:8080"); err == nil {
		t.Error("a port that is not listed answers")
	}
	if _, err := ask(t, pod, "127.0.0.1:7070"); err != nil {
		t.Errorf("the pod's own loopback: %v", err)
	}
	// A guest that routes loopback addresses to its gateway.
	in(t, guest, func() error {
		if err := setSysctl("net/ipv4/conf/g0/route_localnet", "1", false); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(lo)
	})
	in(t, guest, func() error {
		l, err := netlink.LinkByName("g0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("127.0.0.1/32")), Gw: net.ParseIP("10.0.2.1")})
	})
	if _, err := ask(t, guest, "127.0.0.1:7070"); err == nil {
		t.Error("the guest reaches the pod's loopback")
	}
}

// A restarted handler plans and applies again; a guest must not notice.
func TestApplyAgainChangesNothing(t *testing.T) {
	for name, binding := range map[string]v1.InterfaceBindingMethod{
		"masquerade": {Masquerade: &v1.InterfaceMasquerade{}},
		"bridge":     {Bridge: &v1.InterfaceBridge{}},
	} {
		t.Run(name, func(t *testing.T) {
			pod, _ := podWithNetwork(t)
			vmi := testVMI(binding)
			first := planFor(t, pod, vmi)
			apply(t, pod, first).Close()
			before := snapshot(t, pod)
			second := planFor(t, pod, vmi)
			if d := cmp.Diff(first, second, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Errorf("the second plan differs:\n%s", d)
			}
			apply(t, pod, second)
			if d := cmp.Diff(before, snapshot(t, pod)); d != "" {
				t.Errorf("the second run changed the pod:\n%s", d)
			}
		})
	}
}

// snapshot is everything in a namespace that Apply could change.
func snapshot(t *testing.T, ns *Namespace) map[string]any {
	t.Helper()
	state := map[string]any{}
	in(t, ns, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			a := l.Attrs()
			addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			var list []string
			for _, addr := range addrs {
				list = append(list, addr.IPNet.String())
			}
			state[a.Name] = map[string]any{
				"index": a.Index, "type": l.Type(), "mac": a.HardwareAddr.String(), "mtu": a.MTU, "master": a.MasterIndex,
				"addrs": list, "up": a.Flags&net.FlagUp != 0,
			}
		}
		return nil
	})
	conn := must[*nftables.Conn](t)(nftables.New(nftables.WithNetNSFd(int(ns.file.Fd()))))
	for _, chain := range must[[]*nftables.Chain](t)(conn.ListChains()) {
		rules := must[[]*nftables.Rule](t)(conn.GetRules(chain.Table, chain))
		state[chain.Table.Name+"/"+chain.Name+string(rune('0'+chain.Table.Family))] = len(rules)
	}
	return state
}

// QEMU runs as 107 and may open the tap only when it owns it.
func TestTapBelongsToTheLauncher(t *testing.T) {
	pod, _ := podWithNetwork(t)
	vmi := testVMI(v1.InterfaceBindingMethod{Masquerade: &v1.InterfaceMasquerade{}})
	yes := true
	vmi.Spec.Domain.Devices.NetworkInterfaceMultiQueue = &yes
	vmi.Spec.Domain.CPU = &v1.CPU{Cores: 2, Sockets: 2}
	plan := planFor(t, pod, vmi)
	if plan.Interfaces[0].Queues != 4 {
		t.Fatalf("queues: got %d, want 4", plan.Interfaces[0].Queues)
	}
	apply(t, pod, plan)
	in(t, pod, func() error {
		l, err := netlink.LinkByName("tap0")
		if err != nil {
			return err
		}
		tap, ok := l.(*netlink.Tuntap)
		if !ok {
			t.Fatalf("tap0 is a %s", l.Type())
		}
		if tap.Owner != 107 || tap.Group != 107 || tap.NonPersist {
			t.Errorf("owner %d, group %d, persistent %v", tap.Owner, tap.Group, !tap.NonPersist)
		}
		if tap.Flags&netlink.TUNTAP_MULTI_QUEUE == 0 {
			t.Error("tap0 takes one queue only")
		}
		return nil
	})
}

// With the bridge binding the guest is the pod's address on the network.
func TestBridgeHandsTheAddressOver(t *testing.T) {
	pod, world := podWithNetwork(t)
	plan := planFor(t, pod, testVMI(v1.InterfaceBindingMethod{Bridge: &v1.InterfaceBridge{}}))
	apply(t, pod, plan)
	p := plan.Interfaces[0]
	if p.DHCP == nil || p.DHCP.IPv4 != "10.244.0.5/24" || p.DHCP.Gateway4 != "10.244.0.1" || len(p.DHCP.Routes) != 0 {
		t.Errorf("DHCP: %+v", p.DHCP)
	}
	guest := guestLeg(t, pod, "k6t-eth0")
	in(t, guest, func() error {
		l, err := netlink.LinkByName("g0")
		if err != nil {
			return err
		}
		mac, err := net.ParseMAC(p.MAC)
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(l, mac)
	})
	up(t, guest, "g0", p.DHCP.IPv4)
	serve(t, guest, "tcp4", ":8080")
	got, err := ask(t, world, "10.244.0.5:8080")
	if err != nil || got != "10.244.0.1" {
		t.Errorf("from outside: saw %q, %v", got, err)
	}
}

// Guests ask for their address by broadcast; the launcher's socket must hear it on the right bridge.
func TestSocketsHearTheGuest(t *testing.T) {
	pod, _ := podWithNetwork(t)
	r := apply(t, pod, planFor(t, pod, testVMI(v1.InterfaceBindingMethod{Masquerade: &v1.InterfaceMasquerade{}})))
	kinds := map[string]Socket{}
	for _, s := range r.Sockets {
		kinds[s.Role.Kind] = s
	}
	for _, kind := range []string{"dhcp4", "dhcp6", "ra"} {
		if _, ok := kinds[kind]; !ok {
			t.Fatalf("no %s socket", kind)
		}
	}
	guest := guestLeg(t, pod, "k6t-eth0", "10.0.2.2/24", "fe80::2/64")
	defaultRoute(t, guest, "10.0.2.1")
	heard := make(chan struct{})
	defer close(heard)
	in(t, guest, func() error { return callOut(t, heard) })
	for kind, want := range map[string]byte{"dhcp4": 'd', "dhcp6": 's', "ra": 133} {
		f := kinds[kind].File
		if err := f.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		n, err := f.Read(buf)
		if err != nil || n < 8 || buf[0] != want {
			t.Errorf("%s: heard %v, %v", kind, buf[:n], err)
		}
	}
}

// callOut sends what a guest sends at its start, again and again until heard is closed: the bridge takes a moment to notice a
// new port.
func callOut(t *testing.T, heard <-chan struct{}) error {
	t.Helper()
	c, err := net.DialUDP("udp4", &net.UDPAddr{Port: 68}, &net.UDPAddr{IP: net.IPv4bcast, Port: 67})
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fdOf(t, c), unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return err
	}
	c6, err := net.Dial("udp6", "[ff02::1:2%g0]:547")
	if err != nil {
		return err
	}
	ping, err := net.Dial("ip6:ipv6-icmp", "ff02::2%g0")
	if err != nil {
		return err
	}
	go func() {
		again := time.NewTicker(50 * time.Millisecond)
		defer again.Stop()
		for {
			_, _ = c.Write([]byte("discover"))
			_, _ = c6.Write([]byte("solicit!"))
			// An echo request first: only router solicitations may come through.
			for _, kind := range []byte{128, 133} {
				_, _ = ping.Write([]byte{kind, 0, 0, 0, 0, 0, 0, 0})
			}
			select {
			case <-again.C:
			case <-heard:
				for _, conn := range []net.Conn{c, c6, ping} {
					_ = conn.Close()
				}
				return
			}
		}
	}()
	return nil
}

func fdOf(t *testing.T, c *net.UDPConn) int {
	t.Helper()
	raw := must[interface {
		Control(func(uintptr)) error
	}](t)(c.SyscallConn())
	var fd int
	if err := raw.Control(func(f uintptr) { fd = int(f) }); err != nil {
		t.Fatal(err)
	}
	return fd
}
