package network

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newNamespace makes an empty network namespace. The tests here work on the real kernel and need root.
func newNamespace(t *testing.T) *Namespace {
	t.Helper()
	type result struct {
		file *os.File
		err  error
	}
	made := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{f, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatalf("make a network namespace: %v (run the tests as root)", r.err)
	}
	ns := NewNamespace(r.file)
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func in(t *testing.T, ns *Namespace, fn func() error) {
	t.Helper()
	if err := ns.do(fn); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// veth joins two namespaces.
func veth(t *testing.T, a *Namespace, nameA string, b *Namespace, nameB string) {
	t.Helper()
	in(t, a, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = nameA
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(b.file.Fd())})
	})
}

func up(t *testing.T, ns *Namespace, name string, prefixes ...string) {
	t.Helper()
	in(t, ns, func() error {
		for _, n := range []string{"lo", name} {
			l, err := netlink.LinkByName(n)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
			if n == "lo" {
				continue
			}
			for _, p := range prefixes {
				addr := &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(p)), Flags: unix.IFA_F_NODAD}
				if err := netlink.AddrReplace(l, addr); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func defaultRoute(t *testing.T, ns *Namespace, gateway string) {
	t.Helper()
	in(t, ns, func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}) })
}

// serve answers one connection at a time with the peer's address.
func serve(t *testing.T, ns *Namespace, network, addr string) {
	t.Helper()
	in(t, ns, func() error {
		l, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				_, _ = c.Write([]byte(host))
				_ = c.Close()
			}
		}()
		return nil
	})
}

// ask connects and returns what the server said: from where it saw the connection come.
func ask(t *testing.T, ns *Namespace, addr string) (string, error) {
	t.Helper()
	var answer string
	err := ns.do(func() error {
		c, err := net.DialTimeout("tcp", addr, 2*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		answer = string(buf[:n])
		return err
	})
	return answer, err
}

// guestLeg plays the guest: a veth on the bridge in place of the tap's other end.
func guestLeg(t *testing.T, pod *Namespace, bridge string, prefixes ...string) *Namespace {
	t.Helper()
	guest := newNamespace(t)
	veth(t, pod, "leg", guest, "g0")
	in(t, pod, func() error {
		leg, err := netlink.LinkByName("leg")
		if err != nil {
			return err
		}
		master, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(leg, master); err != nil {
			return err
		}
		return netlink.LinkSetUp(leg)
	})
	up(t, guest, "g0", prefixes...)
	return guest
}
