package dhcp

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"virtctl/internal/libvirt/wire"
)

var guestMAC = net.HardwareAddr{2, 0xaa, 0xbb, 0, 0, 1}

func full() wire.DHCPInterface {
	return wire.DHCPInterface{
		Bridge: "k6t-eth0", GuestMAC: guestMAC.String(), IPv4: "10.0.2.2/24", Gateway4: "10.0.2.1", MTU: 1400,
		DNS: []string{"10.96.0.10", "fd00::10"}, Search: []string{"svc.cluster.local", "default.svc.cluster.local"}, Hostname: "web",
		Routes: []wire.Route{{Destination: "192.168.0.0/16", Gateway: "10.0.2.254"}}, NTP: []string{"10.0.0.123"},
		TFTPServer: "tftp.example", BootFile: "pxe.0", Private: map[int]string{224: "x", 12: "must not be there"},
		IPv6: "fd10:0:2::2/120", Gateway6: "fd10:0:2::1",
	}
}

func config(t testing.TB, i wire.DHCPInterface) *config4 {
	t.Helper()
	c, err := newConfig4(i)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ask(t *testing.T, c *config4, kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, *net.UDPAddr) {
	t.Helper()
	request, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(guestMAC), dhcpv4.WithMessageType(kind)}, modifiers...)...)
	if err != nil {
		t.Fatal(err)
	}
	raw, to := c.answer4(request.ToBytes())
	if raw == nil {
		return nil, nil
	}
	reply, err := dhcpv4.FromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	if reply.TransactionID != request.TransactionID {
		t.Fatal("another transaction")
	}
	return reply, to
}

func TestAGuestIsToldEverything(t *testing.T) {
	c := config(t, full())
	offer, to := ask(t, c, dhcpv4.MessageTypeDiscover)
	if offer.MessageType() != dhcpv4.MessageTypeOffer || offer.YourIPAddr.String() != "10.0.2.2" || !to.IP.Equal(net.IPv4bcast) || to.Port != 68 {
		t.Fatalf("%s to %s", offer.Summary(), to)
	}
	ack, _ := ask(t, c, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 0, 2, 2))))
	if ack.MessageType() != dhcpv4.MessageTypeAck || ack.IPAddressLeaseTime(0) != 999*24*time.Hour {
		t.Fatal(ack.Summary())
	}
	ones, _ := ack.SubnetMask().Size()
	routes := ack.ClasslessStaticRoute()
	mtu := ack.Options.Get(dhcpv4.OptionInterfaceMTU)
	switch {
	case ones != 24, ack.Router()[0].String() != "10.0.2.1", len(ack.DNS()) != 1, ack.DNS()[0].String() != "10.96.0.10":
		t.Error(ack.Summary())
	case ack.HostName() != "web", ack.DomainName() != "default.svc.cluster.local", len(ack.DomainSearch().Labels) != 2:
		t.Error(ack.Summary())
	case len(routes) != 2, routes[0].Dest.String() != "192.168.0.0/16", routes[1].Dest.String() != "0.0.0.0/0", routes[1].Router.String() != "10.0.2.1":
		t.Errorf("routes: %v", routes)
	case !bytes.Equal(mtu, []byte{5, 0x78}), ack.NTPServers()[0].String() != "10.0.0.123", ack.TFTPServerName() != "tftp.example", ack.BootFileNameOption() != "pxe.0":
		t.Error(ack.Summary())
	case string(ack.Options.Get(dhcpv4.GenericOptionCode(224))) != "x":
		t.Error("the private option is missing")
	}
}

func TestWhoIsNotAnswered(t *testing.T) {
	c := config(t, full())
	if reply, _ := ask(t, c, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(net.HardwareAddr{2, 2, 2, 2, 2, 2})); reply != nil {
		t.Error("a stranger got an answer")
	}
	if reply, _ := ask(t, c, dhcpv4.MessageTypeRelease); reply != nil {
		t.Error("a release got an answer")
	}
	other := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 99)))
	if reply, _ := ask(t, c, dhcpv4.MessageTypeRequest, other); reply != nil {
		t.Error("a request to another server got an answer")
	}
	if raw, _ := c.answer4([]byte("nonsense")); raw != nil {
		t.Error("nonsense got an answer")
	}
}

func TestRequests(t *testing.T) {
	c := config(t, full())
	nak, to := ask(t, c, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 0, 2, 77))))
	if nak.MessageType() != dhcpv4.MessageTypeNak || !to.IP.Equal(net.IPv4bcast) || nak.Router() != nil {
		t.Error(nak.Summary())
	}
	renewed, to := ask(t, c, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.IPv4(10, 0, 2, 2)))
	if renewed.MessageType() != dhcpv4.MessageTypeAck || to.IP.String() != "10.0.2.2" {
		t.Errorf("%s to %s", renewed.Summary(), to)
	}
	informed, _ := ask(t, c, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IPv4(10, 0, 2, 50)))
	if informed.MessageType() != dhcpv4.MessageTypeAck || !informed.YourIPAddr.IsUnspecified() || informed.IPAddressLeaseTime(7) != 7 {
		t.Error(informed.Summary())
	}
}

func TestBadConfigurationIsNamed(t *testing.T) {
	for name, change := range map[string]func(*wire.DHCPInterface){
		"address": func(i *wire.DHCPInterface) { i.IPv4 = "10.0.2.2" }, "mac": func(i *wire.DHCPInterface) { i.GuestMAC = "x" },
		"server": func(i *wire.DHCPInterface) { i.Gateway4 = "" }, "route": func(i *wire.DHCPInterface) { i.Routes[0].Destination = "all" },
		"gateway": func(i *wire.DHCPInterface) { i.Routes[0].Gateway = "fd00::1" },
	} {
		i := full()
		change(&i)
		if _, err := newConfig4(i); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	i := full()
	i.IPv6 = "10.0.2.2/24"
	if _, err := newConfig6(i, guestMAC); err == nil {
		t.Error("an IPv4 address was taken for IPv6")
	}
}

func config6For(t testing.TB) *config6 {
	t.Helper()
	c, err := newConfig6(full(), guestMAC)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ask6(t *testing.T, c *config6, kind dhcpv6.MessageType, modifiers ...dhcpv6.Modifier) *dhcpv6.Message {
	t.Helper()
	request, err := dhcpv6.NewMessage(modifiers...)
	if err != nil {
		t.Fatal(err)
	}
	request.MessageType = kind
	raw := c.answer6(request.ToBytes())
	if raw == nil {
		return nil
	}
	reply, err := dhcpv6.MessageFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestDHCPv6(t *testing.T) {
	c := config6For(t)
	id := dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: guestMAC})
	association := dhcpv6.WithIAID([4]byte{1, 2, 3, 4})
	advertise := ask6(t, c, dhcpv6.MessageTypeSolicit, id, association)
	if advertise.MessageType != dhcpv6.MessageTypeAdvertise || advertise.Options.OneIANA().Options.OneAddress().IPv6Addr.String() != "fd10:0:2::2" {
		t.Error(advertise.Summary())
	}
	reply := ask6(t, c, dhcpv6.MessageTypeRequest, id, association, dhcpv6.WithServerID(c.id))
	if reply.MessageType != dhcpv6.MessageTypeReply || reply.Options.OneIANA().Options.OneAddress().ValidLifetime != forever ||
		len(reply.Options.DNS()) != 1 || reply.Options.DNS()[0].String() != "fd00::10" || len(reply.Options.DomainSearchList().Labels) != 2 {
		t.Error(reply.Summary())
	}
	if other := ask6(t, c, dhcpv6.MessageTypeRequest, id, association, dhcpv6.WithServerID(&dhcpv6.DUIDLL{LinkLayerAddr: net.HardwareAddr{1, 1, 1, 1, 1, 1}})); other != nil {
		t.Error("a request to another server got an answer")
	}
	if anonymous := ask6(t, c, dhcpv6.MessageTypeSolicit, association); anonymous != nil {
		t.Error("a client without an identifier got an answer")
	}
	if information := ask6(t, c, dhcpv6.MessageTypeInformationRequest); information == nil || len(information.Options.DNS()) != 1 {
		t.Error("an information request got no answer")
	}
}

func TestRouterAdvertisement(t *testing.T) {
	i := full()
	b := advertisement(config6For(t), i, guestMAC)
	if b[0] != 134 || b[5] != 0xc0 || b[6] != 0x23 || b[7] != 0x28 {
		t.Errorf("header % x", b[:16])
	}
	kinds := ""
	for o := b[16:]; len(o) > 0; o = o[8*int(o[1]):] {
		kinds += string('A' + rune(o[0]))
	}
	if kinds != "BFDZ" { // 1, 5, 3, 25
		t.Errorf("options %q", kinds)
	}
	if !bytes.Contains(b, append([]byte{3, 4, 120, 0x80}, bytes.Repeat([]byte{0xff}, 8)...)) {
		t.Error("the prefix is not on the link for ever")
	}
}

func FuzzAnswer(f *testing.F) {
	request, err := dhcpv4.NewDiscovery(guestMAC)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request.ToBytes())
	solicit, err := dhcpv6.NewSolicit(guestMAC)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(solicit.ToBytes())
	four, six := config(f, full()), config6For(f)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if raw, to := four.answer4(packet); raw != nil && (to == nil || len(raw) > 4096) {
			t.Fatalf("%d bytes to %v", len(raw), to)
		}
		if raw := six.answer6(packet); len(raw) > 4096 {
			t.Fatalf("%d bytes", len(raw))
		}
	})
}
