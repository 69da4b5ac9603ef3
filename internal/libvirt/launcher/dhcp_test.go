//go:build libvirt

package launcher_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"virtctl/internal/libvirt/wire"
)

// network is what virt-handler makes in a pod's network namespace for a masqueraded interface.
const network = `echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
ip link add k6t-eth0 type bridge
ip link set k6t-eth0 address 02:00:00:00:00:00
echo 0 > /proc/sys/net/ipv6/conf/k6t-eth0/accept_dad
ip address add 10.0.2.1/24 dev k6t-eth0
ip address add fd10:0:2::1/120 dev k6t-eth0 nodad
ip tuntap add tap0 mode tap user 107 group 107
ip link set tap0 master k6t-eth0
ip link set tap0 up
ip link set k6t-eth0 up
`

const interfaceXML = `<interface type='ethernet'><mac address='02:aa:bb:00:00:01'/><target dev='tap0' managed='no'/><model type='virtio'/><mtu size='1400'/><alias name='ua-default'/></interface>`

func dhcpConfig() wire.DHCPInterface {
	return wire.DHCPInterface{
		Bridge: "k6t-eth0", GuestMAC: "02:aa:bb:00:00:01", IPv4: "10.0.2.2/24", Gateway4: "10.0.2.1", IPv6: "fd10:0:2::2/120", Gateway6: "fd10:0:2::1",
		MTU: 1400, DNS: []string{"10.96.0.10"}, Search: []string{"default.svc.cluster.local", "cluster.local"}, Hostname: "from-dhcp",
	}
}

// inNetwork runs fn in the pod's network namespace.
func (p *pod) inNetwork(fn func() error) {
	p.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine, in the wrong namespace
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", p.cmd.Process.Pid))
		if err == nil {
			err = errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close())
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	must(p.t, <-done)
}

func (p *pod) sockets() []*os.File {
	p.t.Helper()
	var files []*os.File
	p.inNetwork(func() error {
		for _, s := range []struct {
			family, kind, protocol int
			address                unix.Sockaddr
		}{
			{unix.AF_INET, unix.SOCK_DGRAM, 0, &unix.SockaddrInet4{Port: 67}},
			{unix.AF_INET6, unix.SOCK_DGRAM, 0, &unix.SockaddrInet6{Port: 547}},
			{unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, nil},
		} {
			fd, err := unix.Socket(s.family, s.kind|unix.SOCK_CLOEXEC, s.protocol)
			if err != nil {
				return err
			}
			files = append(files, os.NewFile(uintptr(fd), "socket"))
			if err := unix.BindToDevice(fd, "k6t-eth0"); err != nil {
				return err
			}
			if s.address != nil {
				if err := unix.Bind(fd, s.address); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return files
}

// The guest learns its addresses, its router and its names; by sockets the handler opened.
func TestAddressesFromPassedSockets(t *testing.T) {
	p := newPod(t, podOptions{setup: network})
	files := p.sockets()
	roles := []wire.SocketRole{{Interface: "k6t-eth0", Kind: "dhcp4"}, {Interface: "k6t-eth0", Kind: "dhcp6"}, {Interface: "k6t-eth0", Kind: "ra"}}
	_, err := p.Start(p.context(), wire.StartRequest{XML: domainXML(interfaceXML), DHCP: []wire.DHCPInterface{dhcpConfig()}, Sockets: roles}, files...)
	must(t, err)
	for _, f := range files {
		_ = f.Close()
	}
	c := p.terminal()
	c.login()
	c.send("until ip -6 addr show dev eth0 | grep -q fd10 && ip -6 route | grep -q default; do usleep 200000; done; ip addr show dev eth0; ip route; ip -6 route; cat /etc/resolv.conf; ping -c1 -W5 10.0.2.1; ping -c1 -W5 fd10:0:2::1; echo sh''own")
	c.await("shown")
	out := p.stdout.String()
	for _, want := range []string{"inet 10.0.2.2/24", "mtu 1400", "default via 10.0.2.1", "fd10:0:2::2/", "default via fe80::", "10.96.0.10", "default.svc.cluster.local"} {
		if !strings.Contains(out, want) {
			t.Errorf("the guest does not show %q", want)
		}
	}
	if strings.Count(out, " 1 packets received") != 2 {
		t.Error("the guest cannot reach its gateway")
	}
	t.Logf("launcher with DHCP: %d KiB PSS", pss(t, p.cmd.Process.Pid))
}

// Without sockets the launcher opens its own where the pod's sysctl allows it.
func TestAddressesFromOwnSockets(t *testing.T) {
	p := newPod(t, podOptions{setup: network + "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start\n"})
	_, err := p.Start(p.context(), wire.StartRequest{XML: domainXML(interfaceXML), DHCP: []wire.DHCPInterface{dhcpConfig()}})
	must(t, err)
	c := p.terminal()
	c.login()
	c.send("until ip addr show dev eth0 | grep -q 10.0.2.2; do usleep 200000; done; ip addr show dev eth0; ip route; echo sh''own")
	c.await("shown")
	if !strings.Contains(p.stdout.String(), "default via 10.0.2.1") {
		t.Error("the guest has no default route")
	}
}

func TestNoSocketsAndNoRight(t *testing.T) {
	p := newPod(t, podOptions{setup: network})
	_, err := p.Start(p.context(), wire.StartRequest{XML: domainXML(interfaceXML), DHCP: []wire.DHCPInterface{dhcpConfig()}})
	if err == nil || !strings.Contains(err.Error(), "ip_unprivileged_port_start") {
		t.Fatalf("got %v", err)
	}
}
