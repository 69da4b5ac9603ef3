package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"libvirt.org/go/libvirtxml"
)

// Files that `virt-launcher probe --out DIR` leaves.
const (
	probeFile = "probe.json"
	maxProbe  = 16 << 20
)

// Probe is what the launcher image found out on this node before we started.
type Probe struct {
	// KVM tells that a guest really ran with hardware virtualization; Reason says why not.
	KVM    bool
	Reason string
	// Machines are the machine types QEMU knows.
	Machines []string
	// Domain is libvirt's domain capabilities for the best accelerator, nil if unknown.
	Domain *libvirtxml.DomainCaps
	// caches are libvirt's capability caches, without and with KVM.
	caches map[bool]map[string][]byte
}

// ReadProbe reads what a probe left in dir; nil when there was none.
func ReadProbe(dir string) (*Probe, error) {
	raw, err := readFile(filepath.Join(dir, probeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var summary struct {
		KVM      bool     `json:"kvm"`
		Reason   string   `json:"reason"`
		Machines []string `json:"machines"`
	}
	if err := json.Unmarshal(raw, &summary); err != nil {
		return nil, fmt.Errorf("read %s: %w", probeFile, err)
	}
	return &Probe{KVM: summary.KVM, Reason: summary.Reason, Machines: summary.Machines, caches: map[bool]map[string][]byte{}}, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("read the node's probe: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxProbe {
		return nil, fmt.Errorf("read the node's probe: %s is not a file of at most %d bytes", path, maxProbe)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the node's probe: %w", err)
	}
	return raw, nil
}

// HostModel tells whether the probe found the node's host-model CPU.
func (p *Probe) HostModel() bool {
	if p == nil || p.Domain == nil || p.Domain.CPU == nil {
		return false
	}
	for _, mode := range p.Domain.CPU.Modes {
		if mode.Name == "host-model" && mode.Supported == "yes" && len(mode.Models) > 0 {
			return true
		}
	}
	return false
}

// CapabilitiesCache is libvirt's cache for pods with or without KVM.
func (p *Probe) CapabilitiesCache(kvm bool) map[string][]byte {
	if p == nil {
		return nil
	}
	return p.caches[kvm]
}
