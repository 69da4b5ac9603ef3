package dhcp

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"virtctl/internal/libvirt/wire"
)

// forever is DHCPv6's infinite lifetime.
const forever = time.Duration(1<<32-1) * time.Second

type config6 struct {
	address netip.Prefix
	id      dhcpv6.DUID
	dns     []net.IP
	search  []string
}

func newConfig6(i wire.DHCPInterface, mac net.HardwareAddr) (*config6, error) {
	prefix, err := netip.ParsePrefix(i.IPv6)
	if err != nil || !prefix.Addr().Is6() {
		return nil, fmt.Errorf("the IPv6 address %q is not an address with a prefix length", i.IPv6)
	}
	return &config6{
		address: prefix, id: &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac},
		dns: addresses(i.DNS, only6), search: i.Search,
	}, nil
}

func only6(ip net.IP) net.IP {
	if ip.To4() != nil {
		return nil
	}
	return ip
}

// answer6 is the answer to a packet; nil when there is none.
func (c *config6) answer6(packet []byte) []byte {
	parsed, err := dhcpv6.FromBytes(packet)
	if err != nil {
		return nil
	}
	request, ok := parsed.(*dhcpv6.Message)
	if !ok {
		return nil // relays have no place between a guest and its own pod
	}
	if id := request.Options.ServerID(); id != nil && !id.Equal(c.id) {
		return nil
	}
	reply := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: request.TransactionID}
	if client := request.GetOneOption(dhcpv6.OptionClientID); client != nil {
		reply.AddOption(client)
	} else if request.MessageType != dhcpv6.MessageTypeInformationRequest {
		return nil
	}
	reply.AddOption(dhcpv6.OptServerID(c.id))
	switch request.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if request.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			reply.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		} else {
			reply.MessageType = dhcpv6.MessageTypeAdvertise
		}
		c.addAddresses(request, reply)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		c.addAddresses(request, reply)
	case dhcpv6.MessageTypeConfirm:
		reply.AddOption(c.confirm(request))
		return reply.ToBytes()
	case dhcpv6.MessageTypeInformationRequest:
	case dhcpv6.MessageTypeRelease:
		reply.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess})
		return reply.ToBytes()
	default:
		return nil
	}
	if len(c.dns) > 0 {
		reply.AddOption(dhcpv6.OptDNS(c.dns...))
	}
	if len(c.search) > 0 {
		reply.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: c.search}))
	}
	return reply.ToBytes()
}

// addAddresses gives the guest's one address to its first association.
func (c *config6) addAddresses(request, reply *dhcpv6.Message) {
	for n, ia := range request.Options.IANA() {
		if n == maxAssociations {
			return
		}
		answer := &dhcpv6.OptIANA{IaId: ia.IaId}
		if n == 0 {
			answer.T1, answer.T2 = forever, forever
			answer.Options.Add(&dhcpv6.OptIAAddress{
				IPv6Addr: net.IP(c.address.Addr().AsSlice()), PreferredLifetime: forever, ValidLifetime: forever,
			})
		} else {
			answer.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail, StatusMessage: "one address per interface"})
		}
		reply.AddOption(answer)
	}
}

// maxAssociations bounds an answer to a guest that asks for many addresses.
const maxAssociations = 8

func (c *config6) confirm(request *dhcpv6.Message) dhcpv6.Option {
	for _, ia := range request.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			if !a.IPv6Addr.Equal(net.IP(c.address.Addr().AsSlice())) {
				return &dhcpv6.OptStatusCode{StatusCode: iana.StatusNotOnLink}
			}
		}
	}
	return &dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess}
}
