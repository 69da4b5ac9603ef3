package dhcp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"virtctl/internal/libvirt/wire"
)

const (
	// leaseTime is so long that no guest ever renews: its address lives as long as its pod. 999 days, as KubeVirt's.
	leaseTime = 999 * 24 * time.Hour
	// maxPacket bounds what is read from a guest.
	maxPacket   = 4 << 10
	clientPort4 = 68
)

// config4 is what one guest interface is told, in the library's terms.
type config4 struct {
	mac     net.HardwareAddr // nil: everyone
	address netip.Prefix
	server  net.IP
	options []dhcpv4.Option
}

func newConfig4(i wire.DHCPInterface) (*config4, error) {
	c := &config4{}
	var err error
	if c.address, err = netip.ParsePrefix(i.IPv4); err != nil || !c.address.Addr().Is4() {
		return nil, fmt.Errorf("the IPv4 address %q is not an address with a prefix length", i.IPv4)
	}
	if i.GuestMAC != "" {
		if c.mac, err = net.ParseMAC(i.GuestMAC); err != nil {
			return nil, fmt.Errorf("the guest's MAC address: %w", err)
		}
	}
	gateway := net.ParseIP(i.Gateway4).To4()
	if c.server = net.ParseIP(i.Server4).To4(); c.server == nil {
		c.server = gateway
	}
	if c.server == nil {
		return nil, fmt.Errorf("neither a DHCP server address nor a gateway is set for %s", i.Bridge)
	}
	c.options = []dhcpv4.Option{
		dhcpv4.OptSubnetMask(net.CIDRMask(c.address.Bits(), 32)),
		dhcpv4.OptIPAddressLeaseTime(leaseTime),
		dhcpv4.OptServerIdentifier(c.server),
	}
	if gateway != nil {
		c.options = append(c.options, dhcpv4.OptRouter(gateway))
	}
	routes, err := classless(i.Routes, gateway)
	if err != nil {
		return nil, err
	}
	c.options = append(c.options, routes...)
	c.options = append(c.options, naming(i)...)
	return c, nil
}

// naming are the options about names and services.
func naming(i wire.DHCPInterface) []dhcpv4.Option {
	var out []dhcpv4.Option
	if dns := addresses(i.DNS, net.IP.To4); len(dns) > 0 {
		out = append(out, dhcpv4.OptDNS(dns...))
	}
	if len(i.Search) > 0 {
		out = append(out, dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: i.Search}), dhcpv4.OptDomainName(domainName(i.Search)))
	}
	if i.Hostname != "" {
		out = append(out, dhcpv4.OptHostName(i.Hostname))
	}
	if i.MTU > 0 {
		out = append(out, dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(i.MTU >> 8), byte(i.MTU)}))
	}
	if ntp := addresses(i.NTP, net.IP.To4); len(ntp) > 0 {
		out = append(out, dhcpv4.OptNTPServers(ntp...))
	}
	if i.TFTPServer != "" {
		out = append(out, dhcpv4.OptTFTPServerName(i.TFTPServer))
	}
	if i.BootFile != "" {
		out = append(out, dhcpv4.OptBootFileName(i.BootFile))
	}
	for code, value := range i.Private {
		if code >= 224 && code <= 254 {
			out = append(out, dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), []byte(value)))
		}
	}
	return out
}

// domainName is the guest's own domain: the longest search domain is the one of its namespace.
func domainName(search []string) string {
	longest := ""
	for _, s := range search {
		if len(s) > len(longest) {
			longest = s
		}
	}
	return strings.TrimSuffix(longest, ".")
}

// classless encodes routes. A client that is given them ignores the router option (RFC 3442), so the default route goes in too.
func classless(routes []wire.Route, gateway net.IP) ([]dhcpv4.Option, error) {
	if len(routes) == 0 {
		return nil, nil
	}
	var out []*dhcpv4.Route
	hasDefault := false
	for _, r := range routes {
		_, dest, err := net.ParseCIDR(r.Destination)
		if err != nil || dest.IP.To4() == nil {
			return nil, fmt.Errorf("the route's destination %q is not an IPv4 network", r.Destination)
		}
		router := net.IPv4zero.To4()
		if r.Gateway != "" {
			if router = net.ParseIP(r.Gateway).To4(); router == nil {
				return nil, fmt.Errorf("the route's gateway %q is not an IPv4 address", r.Gateway)
			}
		}
		ones, _ := dest.Mask.Size()
		hasDefault = hasDefault || ones == 0
		out = append(out, &dhcpv4.Route{Dest: dest, Router: router})
	}
	if !hasDefault && gateway != nil {
		out = append(out, &dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Router: gateway})
	}
	return []dhcpv4.Option{dhcpv4.OptClasslessStaticRoute(out...)}, nil
}

func addresses(list []string, family func(net.IP) net.IP) []net.IP {
	var out []net.IP
	for _, s := range list {
		if ip := family(net.ParseIP(s)); ip != nil {
			out = append(out, ip)
		}
	}
	return out
}

// answer4 is the answer to a packet and where to send it; nil when there is none.
func (c *config4) answer4(packet []byte) ([]byte, *net.UDPAddr) {
	request, err := dhcpv4.FromBytes(packet)
	if err != nil || request.OpCode != dhcpv4.OpcodeBootRequest || request.HWType != iana.HWTypeEthernet {
		return nil, nil
	}
	if c.mac != nil && request.ClientHWAddr.String() != c.mac.String() {
		return nil, nil // another machine on the same bridge is not ours
	}
	reply, err := dhcpv4.New(dhcpv4.WithReply(request))
	if err != nil {
		return nil, nil
	}
	if !c.decide(request, reply) {
		return nil, nil
	}
	reply.ServerIPAddr = c.server
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: clientPort4}
	if ciaddr := request.ClientIPAddr.To4(); ciaddr != nil && !ciaddr.IsUnspecified() && reply.MessageType() != dhcpv4.MessageTypeNak {
		to.IP = ciaddr
	}
	return reply.ToBytes(), to
}

// decide fills the reply; false means silence.
func (c *config4) decide(request, reply *dhcpv4.DHCPv4) bool {
	address := net.IP(c.address.Addr().AsSlice())
	if id := request.ServerIdentifier(); id != nil && !id.IsUnspecified() && !id.Equal(c.server) {
		return false // it has chosen another server
	}
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
	case dhcpv4.MessageTypeRequest:
		wanted := request.RequestedIPAddress()
		if wanted == nil {
			wanted = request.ClientIPAddr
		}
		if !wanted.Equal(address) {
			reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeNak))
			reply.UpdateOption(dhcpv4.OptServerIdentifier(c.server))
			return true
		}
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
	case dhcpv4.MessageTypeInform:
		reply.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
		c.addOptions(reply, true)
		return true
	default:
		return false
	}
	reply.YourIPAddr = address
	c.addOptions(reply, false)
	return true
}

func (c *config4) addOptions(reply *dhcpv4.DHCPv4, inform bool) {
	for _, o := range c.options {
		if inform && o.Code.Code() == dhcpv4.OptionIPAddressLeaseTime.Code() {
			continue
		}
		reply.UpdateOption(o)
	}
}
