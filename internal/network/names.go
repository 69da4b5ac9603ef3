package network

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strings"
)

const (
	primaryLink = "eth0"
	// bridgeMAC is what masqueraded guests see as their gateway. It is the same in every pod so that a guest's neighbour cache
	// stays right after a migration.
	bridgeMAC = "02:00:00:00:00:00"
	hashLen   = 11
)

// names of the links that belong to one pod link. All fit into 15 characters.
type names struct{ bridge, tap string }

func namesFor(podLink, network string, primary bool) names {
	if primary {
		return names{bridge: bound("k6t-" + podLink), tap: "tap0"}
	}
	h := hash(network)
	return names{bridge: "k6t-" + h, tap: "tap" + h}
}

// keeperOf is the link that remembers a pod link's addresses while a guest has them.
func keeperOf(podLink string) string { return bound("ip-" + podLink) }

// SecondaryLink is the name of the pod link that a secondary network is asked to have.
func SecondaryLink(network string) string { return "pod" + hash(network) }

func bound(name string) string {
	const ifNameMax = 15
	if len(name) <= ifNameMax {
		return name
	}
	prefix, rest, _ := strings.Cut(name, "-")
	return prefix + "-" + hash(rest)[:min(hashLen, ifNameMax-1-len(prefix))]
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:hashLen]
}

// derivedMAC gives the same locally administered address for the same identity, so that a guest keeps its MAC for the whole
// life of its VirtualMachineInstance, wherever it runs.
func derivedMAC(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	mac := net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
	if mac.String() == bridgeMAC {
		mac[5] = 1
	}
	return mac.String()
}
