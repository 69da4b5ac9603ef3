package network

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"virtctl/internal/libvirt/wire"
)

const (
	portDHCP4 = 67
	portDHCP6 = 547
	// routerSolicitation is the one ICMPv6 type that the router advertiser listens to.
	routerSolicitation = 133
	hopLimit           = 255
)

// openAll opens what the launcher needs to answer DHCP and to advertise a router: it has no right to do so itself. It runs in
// the pod's namespace.
func (r *Result) openAll(plan Plan) error {
	for _, p := range plan.Interfaces {
		if p.DHCP == nil {
			continue
		}
		r.DHCP = append(r.DHCP, *p.DHCP)
		if p.DHCP.IPv4 != "" {
			if err := r.open(p.Bridge, "dhcp4", openDHCP4); err != nil {
				return err
			}
		}
		if p.DHCP.IPv6 != "" {
			if err := r.open(p.Bridge, "dhcp6", openDHCP6); err != nil {
				return err
			}
			if err := r.open(p.Bridge, "ra", openAdvertiser); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Result) open(link, kind string, opener func(link string) (int, error)) error {
	fd, err := opener(link)
	if err != nil {
		return fmt.Errorf("open the %s socket on %s: %w", kind, link, err)
	}
	r.Sockets = append(r.Sockets, Socket{
		Role: wire.SocketRole{Interface: link, Kind: kind},
		File: os.NewFile(uintptr(fd), kind),
	})
	return nil
}

func openDHCP4(link string) (int, error) {
	return socket(unix.AF_INET, unix.SOCK_DGRAM, 0, func(fd int) error {
		for _, option := range []int{unix.SO_REUSEADDR, unix.SO_BROADCAST} {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
				return err
			}
		}
		if err := unix.BindToDevice(fd, link); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Port: portDHCP4})
	})
}

func openDHCP6(link string) (int, error) {
	return socket(unix.AF_INET6, unix.SOCK_DGRAM, 0, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		// ff02::1:2 is where DHCPv6 clients look for servers.
		if err := joinGroup(fd, link, "ff02::1:2"); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet6{Port: portDHCP6})
	})
}

func openAdvertiser(link string) (int, error) {
	return socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, func(fd int) error {
		filter := &unix.ICMPv6Filter{}
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0) // a set bit blocks
		}
		filter.Data[routerSolicitation>>5] &^= 1 << (routerSolicitation & 31)
		if err := unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, filter); err != nil {
			return err
		}
		for option, value := range map[int]int{
			unix.IPV6_MULTICAST_HOPS: hopLimit, unix.IPV6_UNICAST_HOPS: hopLimit, unix.IPV6_RECVHOPLIMIT: 1,
		} {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option, value); err != nil {
				return err
			}
		}
		return joinGroup(fd, link, "ff02::2") // all routers
	})
}

func joinGroup(fd int, link, group string) error {
	iface, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	if err := unix.BindToDevice(fd, link); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, iface.Index); err != nil {
		return err
	}
	request := &unix.IPv6Mreq{Interface: uint32(iface.Index)}
	copy(request.Multiaddr[:], net.ParseIP(group).To16())
	return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, request)
}

func socket(family, kind, protocol int, setup func(fd int) error) (int, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, err
	}
	if err := setup(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
