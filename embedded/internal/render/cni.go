package render

import (
	"encoding/json"
	"fmt"

	"virtctl/embedded/internal/plan"
)

// CNI is the pod network of one node: a bridge, addresses from the node's own ranges, host ports.
func CNI(n plan.Node) ([]byte, error) {
	type ipRange struct {
		Subnet string `json:"subnet"`
	}
	type object = map[string]any
	var ranges [][]ipRange
	for _, p := range n.PodCIDRs {
		ranges = append(ranges, []ipRange{{p.String()}})
	}
	conf := object{
		"cniVersion": "1.0.0",
		"name":       "virt-kube",
		"plugins": []object{
			{
				"type": "bridge", "bridge": PodBridge, "isDefaultGateway": true, "hairpinMode": true,
				// The leases vanish with the node's /run, as its pods do: none can leak over a reboot.
				"ipam": object{"type": "host-local", "dataDir": "/run/cni/networks", "ranges": ranges},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}
	out, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("render CNI configuration: %w", err)
	}
	return append(out, '\n'), nil
}
