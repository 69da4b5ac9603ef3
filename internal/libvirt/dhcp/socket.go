package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket4 is the passed socket, or one of our own: a pod whose sysctl net.ipv4.ip_unprivileged_port_start allows it needs no help.
func socket4(passed *os.File, bridge string) (net.PacketConn, error) {
	if passed != nil {
		conn, err := packetConn(passed)
		if err != nil {
			return nil, err
		}
		return conn, control(conn, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1) })
	}
	return listen("udp4", "0.0.0.0:67", func(fd int) error {
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
			unix.BindToDevice(fd, bridge),
		)
	})
}

func socket6(passed *os.File, link *net.Interface) (net.PacketConn, error) {
	var conn net.PacketConn
	var err error
	if passed != nil {
		conn, err = packetConn(passed)
	} else {
		conn, err = listen("udp6", "[::]:547", func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.BindToDevice(fd, link.Name))
		})
	}
	if err != nil {
		return nil, err
	}
	return conn, join(conn, link, "ff02::1:2")
}

// socketRA lets only router solicitations through: neighbour discovery must not wake the launcher.
func socketRA(passed *os.File, link *net.Interface) (net.PacketConn, error) {
	conn, err := packetConn(passed)
	if err != nil {
		return nil, err
	}
	err = control(conn, func(fd int) error {
		var filter unix.ICMPv6Filter
		for i := range filter.Data {
			filter.Data[i] = 0xffffffff
		}
		filter.Data[icmpRouterSolicitation/32] &^= 1 << (icmpRouterSolicitation % 32)
		return errors.Join(
			unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter),
			// A router advertisement from farther than this link is ignored by guests.
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, link.Index),
		)
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, join(conn, link, "ff02::2")
}

func packetConn(f *os.File) (net.PacketConn, error) {
	conn, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("use the passed socket: %w", err)
	}
	return conn, nil
}

func listen(network, address string, setup func(fd int) error) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if controlErr := raw.Control(func(fd uintptr) { err = setup(int(fd)) }); controlErr != nil {
			return controlErr
		}
		return err
	}}
	conn, err := config.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("no socket was passed and the pod may not open one; its sysctl net.ipv4.ip_unprivileged_port_start must be 0: %w", err)
	}
	return conn, nil
}

// join enters a multicast group; whoever opened the socket may have done so.
func join(conn net.PacketConn, link *net.Interface, group string) error {
	request := &unix.IPv6Mreq{Interface: uint32(link.Index)}
	copy(request.Multiaddr[:], net.ParseIP(group))
	err := control(conn, func(fd int) error {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, request)
	})
	if err != nil && !errors.Is(err, unix.EADDRINUSE) {
		_ = conn.Close()
		return fmt.Errorf("join %s: %w", group, err)
	}
	return nil
}

func control(conn net.PacketConn, fn func(fd int) error) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return errors.New("set the socket up: it has no descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("set the socket up: %w", err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return fmt.Errorf("set the socket up: %w", err)
	}
	if inner != nil {
		return fmt.Errorf("set the socket up: %w", inner)
	}
	return nil
}
