package network

import (
	"fmt"
	"net/netip"
	"strings"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
)

// renderNft writes the host's table: traffic of pods and nodes to the world gets the host's address, and unless the cluster is
// exposed its API server answers this machine and the nodes only, and nobody else calls nodes and pods by way of this machine.
func renderNft(o options.Options, c plan.Cluster) string {
	var b strings.Builder
	table := o.NftTable()
	fmt.Fprintf(&b, "table inet %[1]s\ndelete table inet %[1]s\ntable inet %[1]s {\n", table)
	b.WriteString("\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n")
	for i, family := range []string{"ip", "ip6"} {
		if i == len(c.PodCIDRs) {
			break
		}
		inside := []netip.Prefix{c.PodCIDRs[i], c.Gateway[i].Masked()}
		fmt.Fprintf(&b, "\t\t%[1]s saddr %[2]s %[1]s daddr != %[2]s oifname != %[3]q masquerade\n", family, set(inside), o.Bridge)
	}
	b.WriteString("\t}\n")
	if !o.Expose {
		b.WriteString("\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n")
		fmt.Fprintf(&b, "\t\ttcp dport %d iifname != { \"lo\", %q } reject with tcp reset\n\t}\n", o.APIServerPort, o.Bridge)
		b.WriteString("\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n")
		fmt.Fprintf(&b, "\t\toifname %[1]q iifname != %[1]q ct state new reject\n\t}\n", o.Bridge)
	}
	b.WriteString("}\n")
	return b.String()
}

func set(prefixes []netip.Prefix) string {
	parts := make([]string, len(prefixes))
	for i, p := range prefixes {
		parts[i] = p.String()
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}
