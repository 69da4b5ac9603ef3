package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// keepTable is the routing table that remembers the routes of links handed over to guests. No rule leads to it.
const keepTable = 10752

// Inspect reads the pod's links as its network plugin made them, also after Apply has changed them.
func Inspect(ns *Namespace) (Pod, error) {
	var pod Pod
	err := ns.do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		pod.Links, err = readLinks(h)
		return err
	})
	return pod, err
}

func readLinks(h *netlink.Handle) ([]Link, error) {
	found, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the pod's links: %w", err)
	}
	byName := make(map[string]netlink.Link, len(found))
	for _, l := range found {
		byName[l.Attrs().Name] = l
	}
	var links []Link
	for _, l := range found {
		name := l.Attrs().Name
		if l.Attrs().Flags&net.FlagLoopback != 0 || ours(name) {
			continue
		}
		link, err := readLink(h, l, unix.RT_TABLE_MAIN)
		if err != nil {
			return nil, err
		}
		if keeper, ok := byName[keeperOf(name)]; ok && len(link.Addrs) == 0 {
			if link, err = readLink(h, keeper, keepTable); err != nil {
				return nil, err
			}
			link.Name = name
		}
		links = append(links, link)
	}
	return links, nil
}

func ours(name string) bool {
	return strings.HasPrefix(name, "k6t-") || strings.HasPrefix(name, "ip-") || strings.HasPrefix(name, "tap")
}

func readLink(h *netlink.Handle, l netlink.Link, table int) (Link, error) {
	attrs := l.Attrs()
	link := Link{Name: attrs.Name, MAC: attrs.HardwareAddr.String(), MTU: attrs.MTU}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		addrs, err := h.AddrList(l, family)
		if err != nil {
			return Link{}, fmt.Errorf("list addresses of %s: %w", attrs.Name, err)
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok && a.Scope == unix.RT_SCOPE_UNIVERSE {
				link.Addrs = append(link.Addrs, p)
			}
		}
		routes, err := h.RouteListFiltered(family, &netlink.Route{LinkIndex: attrs.Index, Table: table},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return Link{}, fmt.Errorf("list routes of %s: %w", attrs.Name, err)
		}
		for _, r := range routes {
			if route, ok := routeOf(r, family); ok {
				link.Routes = append(link.Routes, route)
			}
		}
	}
	slices.SortStableFunc(link.Routes, func(a, b Route) int { return b.Dst.Bits() - a.Dst.Bits() })
	return link, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), true
}

func routeOf(r netlink.Route, family int) (Route, bool) {
	route := Route{}
	switch dst, ok := prefixOf(r.Dst); {
	case ok && dst.Addr().IsLinkLocalUnicast() || ok && dst.Addr().IsMulticast():
		return route, false
	case ok:
		route.Dst = dst
	case family == netlink.FAMILY_V4:
		route.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	default:
		route.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		route.Gateway = gw.Unmap()
	}
	return route, true
}

func linkByName(h *netlink.Handle, name string) (netlink.Link, bool, error) {
	l, err := h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("look up link %s: %w", name, err)
	}
	return l, true, nil
}
