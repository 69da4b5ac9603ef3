package dhcp

import (
	"encoding/binary"
	"net"

	"virtctl/internal/libvirt/wire"
)

// What follows is RFC 4861 and RFC 8106.
const (
	icmpRouterSolicitation  = 133
	icmpRouterAdvertisement = 134
	// routerLifetime is how long a guest keeps the default route without hearing from us, in seconds.
	routerLifetime = 9000
	flagManaged    = 0x80 // addresses come by DHCPv6
	flagOther      = 0x40 // so does everything else
	flagOnLink     = 0x80
	infinite       = 0xffffffff
)

// advertisement is the router advertisement for an interface; the kernel fills in the checksum.
func advertisement(c *config6, i wire.DHCPInterface, mac net.HardwareAddr) []byte {
	be := binary.BigEndian
	b := []byte{icmpRouterAdvertisement, 0, 0, 0, 64, flagManaged | flagOther}
	b = be.AppendUint16(b, routerLifetime)
	b = be.AppendUint32(b, 0) // reachable time: unspecified
	b = be.AppendUint32(b, 0) // retransmission timer: unspecified
	b = append(b, 1, 1)       // source link-layer address
	b = append(b, mac...)
	if i.MTU > 0 {
		b = append(b, 5, 1, 0, 0)
		b = be.AppendUint32(b, uint32(i.MTU))
	}
	b = append(b, 3, 4, byte(c.address.Bits()), flagOnLink)
	b = be.AppendUint32(b, infinite)
	b = be.AppendUint32(b, infinite)
	b = be.AppendUint32(b, 0)
	prefix := c.address.Masked().Addr().As16()
	b = append(b, prefix[:]...)
	if len(c.dns) > 0 {
		b = append(b, 25, byte(1+2*len(c.dns)), 0, 0)
		b = be.AppendUint32(b, routerLifetime)
		for _, ip := range c.dns {
			b = append(b, ip.To16()...)
		}
	}
	return b
}
