package render

import (
	"fmt"
	"strings"

	"virtctl/embedded/internal/plan"
)

// Corefile is CoreDNS's configuration. The cluster's own names are not cached: the plugin answers from memory, and a service that
// was just made must resolve at once. Without upstream resolvers other names fail fast.
func Corefile(c plan.Cluster, kubeconfig, resolvConf string) []byte {
	var b strings.Builder
	b.WriteString(".:53 {\n")
	var bind []string
	for _, g := range c.Gateway {
		bind = append(bind, g.Addr().String())
	}
	fmt.Fprintf(&b, "    bind %s\n", strings.Join(bind, " "))
	b.WriteString("    errors\n")
	fmt.Fprintf(&b, "    kubernetes %s in-addr.arpa ip6.arpa {\n", ClusterDomain)
	fmt.Fprintf(&b, "        kubeconfig %s\n        pods insecure\n        ttl 5\n        fallthrough in-addr.arpa ip6.arpa\n    }\n", kubeconfig)
	if resolvConf != "" {
		fmt.Fprintf(&b, "    forward . %s\n", resolvConf)
	}
	fmt.Fprintf(&b, "    cache 30 {\n        disable success %[1]s\n        disable denial %[1]s\n    }\n}\n", ClusterDomain)
	return []byte(b.String())
}

// Nameservers reads the resolvers of a resolv.conf, leaving out ours.
func Nameservers(resolvConf string, ours plan.Cluster) []string {
	var out []string
	for line := range strings.SplitSeq(resolvConf, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || fields[1] == ours.GatewayIP().String() {
			continue
		}
		out = append(out, fields[1])
	}
	return out
}

// NodeResolvConf is /etc/resolv.conf on a node: the host's own may name a resolver that only the host can reach.
func NodeResolvConf(c plan.Cluster) []byte {
	return fmt.Appendf(nil, "nameserver %s\n", c.GatewayIP())
}
