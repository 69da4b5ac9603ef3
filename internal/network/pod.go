package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// Pod is what a pod's network looked like before a guest was joined to it.
type Pod struct {
	Links []Link `json:"links"`
	// Resolver is the pod's own, which guests are told to use as well.
	Resolver Resolver `json:"resolver"`
	// Attachments names the pod link of each network, from Multus' status annotation: by network name as the annotation spells
	// it, "" being the pod's default network.
	Attachments map[string]string `json:"attachments,omitempty"`
}

// Link is one link of a pod.
type Link struct {
	Name string `json:"name"`
	MAC  string `json:"mac,omitempty"`
	MTU  int    `json:"mtu,omitempty"`
	// Addrs are the global addresses, IPv4 first.
	Addrs  []netip.Prefix `json:"addrs,omitempty"`
	Routes []Route        `json:"routes,omitempty"`
}

// Route leads to Dst over Gateway, which is invalid for destinations on the link itself.
type Route struct {
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

func (p Pod) link(name string) (Link, bool) {
	for _, l := range p.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

// has tells whether the link has an address of the family.
func (l Link) has(v6 bool) bool {
	for _, a := range l.Addrs {
		if a.Addr().Is6() == v6 {
			return true
		}
	}
	return false
}

// StatusAnnotation is where Multus tells what it attached.
const StatusAnnotation = "k8s.v1.cni.cncf.io/network-status"

// maxStatus bounds what is read of the annotation.
const maxStatus = 256 << 10

// Attachments reads Multus' status annotation: network name -> pod link.
func Attachments(annotation string) (map[string]string, error) {
	if annotation == "" {
		return nil, nil
	}
	if len(annotation) > maxStatus {
		return nil, fmt.Errorf("annotation %s is larger than %d bytes", StatusAnnotation, maxStatus)
	}
	var entries []struct {
		Name      string `json:"name"`
		Interface string `json:"interface"`
		Default   bool   `json:"default"`
	}
	if err := json.Unmarshal([]byte(annotation), &entries); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", StatusAnnotation, err)
	}
	links := make(map[string]string, len(entries))
	for _, e := range entries {
		name := e.Name
		if e.Default {
			name = ""
		}
		if _, seen := links[name]; !seen && e.Interface != "" {
			links[name] = e.Interface
		}
	}
	return links, nil
}

// PCIAddresses reads from Multus' status annotation which device of the node is behind each link: link name -> PCI address.
func PCIAddresses(annotation string) (map[string]string, error) {
	if len(annotation) > maxStatus {
		return nil, fmt.Errorf("annotation %s is larger than %d bytes", StatusAnnotation, maxStatus)
	}
	addresses := map[string]string{}
	if annotation == "" {
		return addresses, nil
	}
	var entries []struct {
		Interface string `json:"interface"`
		Device    struct {
			PCI struct {
				Address string `json:"pci-address"`
			} `json:"pci"`
		} `json:"device-info"`
	}
	if err := json.Unmarshal([]byte(annotation), &entries); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", StatusAnnotation, err)
	}
	for _, e := range entries {
		if e.Interface != "" && e.Device.PCI.Address != "" {
			addresses[e.Interface] = e.Device.PCI.Address
		}
	}
	return addresses, nil
}
