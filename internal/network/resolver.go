package network

import (
	"bufio"
	"io"
	"net/netip"
	"strings"
)

// Resolver is what resolv.conf says.
type Resolver struct {
	Servers []string `json:"servers,omitempty"`
	Search  []string `json:"search,omitempty"`
}

// What is read of a resolv.conf at most; the same limits as the resolver library's and Kubernetes'.
const (
	maxResolvConf = 64 << 10
	maxServers    = 3
	maxSearch     = 32
	maxName       = 253
)

// ParseResolver reads a resolv.conf. Lines it does not understand are left out, as every resolver does.
func ParseResolver(r io.Reader) Resolver {
	var res Resolver
	lines := bufio.NewScanner(io.LimitReader(r, maxResolvConf))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			// A server on the pod's own loopback is out of a guest's reach.
			addr, err := netip.ParseAddr(fields[1])
			if err == nil && addr.Zone() == "" && !addr.IsLoopback() && !addr.IsUnspecified() && len(res.Servers) < maxServers {
				res.Servers = append(res.Servers, addr.Unmap().String())
			}
		case "search", "domain":
			res.Search = searchList(fields[1:])
		}
	}
	return res
}

func searchList(names []string) []string {
	var list []string
	for _, n := range names {
		n = strings.TrimSuffix(n, ".")
		if domainName(n) && len(list) < maxSearch {
			list = append(list, n)
		}
	}
	return list
}

// domainName tells whether n can be told to a guest as a name.
func domainName(n string) bool {
	if n == "" || len(n) > maxName {
		return false
	}
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
			if !alnum && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
