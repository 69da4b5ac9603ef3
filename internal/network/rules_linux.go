package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is ours alone: nothing else in the pod writes to it, so it can be replaced as a whole.
const tableName = "kubevirt"

// applyRules replaces the translation rules of the calling thread's namespace in one transaction.
func applyRules(plan Plan) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for _, v6 := range []bool{false, true} {
		if !needsRules(plan, v6) {
			continue
		}
		table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}
		if v6 {
			table.Family = nftables.TableFamilyIPv6
		}
		conn.AddTable(table) // so that there is one to delete
		conn.DelTable(table)
		conn.AddTable(table)
		writeRules(&family{conn: conn, table: table, v6: v6}, plan)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write nftables rules: %w; check that the node's kernel has nf_tables with nat", err)
	}
	return nil
}

func needsRules(plan Plan, v6 bool) bool {
	for _, p := range plan.Interfaces {
		if pairOf(p, v6) != nil {
			return true
		}
	}
	return false
}

func pairOf(p Interface, v6 bool) *Pair {
	switch {
	case p.Masquerade == nil:
		return nil
	case v6:
		return p.Masquerade.V6
	}
	return p.Masquerade.V4
}

// family writes rules of one address family.
type family struct {
	conn  *nftables.Conn
	table *nftables.Table
	v6    bool
}

func writeRules(f *family, plan Plan) {
	accept := nftables.ChainPolicyAccept
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return f.conn.AddChain(&nftables.Chain{
			Name: name, Table: f.table, Type: kind, Hooknum: hook, Priority: priority, Policy: &accept,
		})
	}
	raw := chain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	for _, p := range plan.Interfaces {
		pair := pairOf(p, f.v6)
		if pair == nil {
			continue
		}
		guest, gateway := pair.Guest.Addr(), pair.Gateway.Addr()
		for _, port := range f.ports(p.Masquerade.Ports) {
			f.rule(pre, iif(p.PodLink), port, f.dnat(guest))
			if !f.v6 {
				f.rule(out, f.daddr(netip.AddrFrom4([4]byte{127, 0, 0, 1})), port, f.dnat(guest))
			}
		}
		f.rule(post, f.saddr(guest), oifNot(p.Bridge), []expr.Any{&expr.Masq{}})
		if !f.v6 {
			f.rule(post, oif(p.Bridge), f.saddr(netip.AddrFrom4([4]byte{127, 0, 0, 1})), f.snat(gateway))
			f.rule(raw, iif(p.Bridge), loopbackDst(), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
		}
	}
}

func (f *family) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: chain, Exprs: all})
}

// ports gives one match per port range; a single empty match when there is none.
func (f *family) ports(ranges []PortRange) [][]expr.Any {
	if len(ranges) == 0 {
		return [][]expr.Any{nil}
	}
	matches := make([][]expr.Any, 0, len(ranges))
	for _, r := range ranges {
		proto := byte(unix.IPPROTO_TCP)
		if r.Protocol == "udp" {
			proto = unix.IPPROTO_UDP
		}
		matches = append(matches, []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: be16(r.First), ToData: be16(r.Last)},
		})
	}
	return matches
}

func (f *family) dnat(to netip.Addr) []expr.Any { return f.nat(expr.NATTypeDestNAT, to) }
func (f *family) snat(to netip.Addr) []expr.Any { return f.nat(expr.NATTypeSourceNAT, to) }

func (f *family) nat(kind expr.NATType, to netip.Addr) []expr.Any {
	nfproto := uint32(unix.NFPROTO_IPV4)
	if f.v6 {
		nfproto = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: kind, Family: nfproto, RegAddrMin: 1},
	}
}

func (f *family) saddr(a netip.Addr) []expr.Any {
	if f.v6 {
		return address(a, 8)
	}
	return address(a, 12)
}

func (f *family) daddr(a netip.Addr) []expr.Any {
	if f.v6 {
		return address(a, 24)
	}
	return address(a, 16)
}

// address compares the address at offset of the IP header.
func address(a netip.Addr, offset uint32) []expr.Any {
	data := a.AsSlice()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(data))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data},
	}
}

func loopbackDst() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{127}},
	}
}

func iif(name string) []expr.Any    { return link(expr.MetaKeyIIFNAME, expr.CmpOpEq, name) }
func oif(name string) []expr.Any    { return link(expr.MetaKeyOIFNAME, expr.CmpOpEq, name) }
func oifNot(name string) []expr.Any { return link(expr.MetaKeyOIFNAME, expr.CmpOpNeq, name) }

func link(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data[:unix.IFNAMSIZ-1], name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: data},
	}
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
