package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"libvirt.org/go/libvirtxml"
)

// Files that `virt-launcher probe --out DIR` leaves; <variant> is tcg or kvm.
const (
	resultFile = "probe.json"
	variantTCG = "tcg"
	variantKVM = "kvm"
	// maxFile and maxFiles bound what is read.
	maxFile  = 8 << 20
	maxFiles = 64
)

func domainCapabilities(variant string) string { return "domcapabilities-" + variant + ".xml" }
func cacheDir(variant string) string           { return "cache-" + variant }

// Probe is what the launcher image found out on this node before we started. The nil Probe knows nothing.
type Probe struct {
	// KVM tells that a guest really ran with hardware virtualization; Reason says why not.
	KVM    bool   `json:"kvm"`
	Reason string `json:"reason"`
	// Machines are the machine types QEMU knows.
	Machines []string `json:"machines"`

	cpu cpu
	dir string
}

// cpu is what the best accelerator offers to guests.
type cpu struct {
	// models are those usable on this node, hyperV the enlightenments.
	models, hyperV []string
	// hostModel is the node's own CPU in libvirt's words, with the features it needs beyond its name.
	hostModel, vendor string
	features          []string
}

// ReadProbe reads what a probe left in dir; nil when there was none.
func ReadProbe(dir string) (*Probe, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's probe: %w", err)
	}
	defer root.Close()
	p := &Probe{dir: dir}
	raw, err := readFile(root, resultFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, fmt.Errorf("read the node's probe: %s: %w", resultFile, err)
	}
	raw, err = readFile(root, domainCapabilities(p.variant(p.KVM)))
	if err != nil {
		return nil, err
	}
	if p.cpu, err = parseCPU(string(raw)); err != nil {
		return nil, err
	}
	return p, nil
}

// parseCPU keeps of libvirt's large document what is needed.
func parseCPU(doc string) (cpu, error) {
	var caps libvirtxml.DomainCaps
	if err := caps.Unmarshal(doc); err != nil {
		return cpu{}, fmt.Errorf("read the node's probe: domain capabilities: %w", err)
	}
	var c cpu
	if f := caps.Features; f != nil && f.HyperV != nil {
		for _, e := range f.HyperV.Enums {
			c.hyperV = append(c.hyperV, e.Values...)
		}
	}
	if caps.CPU == nil {
		return c, nil
	}
	for _, mode := range caps.CPU.Modes {
		switch {
		case mode.Supported != "yes":
		case mode.Name == "host-model" && len(mode.Models) > 0:
			c.hostModel, c.vendor = mode.Models[0].Name, mode.Vendor
			for _, f := range mode.Features {
				if f.Policy == "require" {
					c.features = append(c.features, f.Name)
				}
			}
		case mode.Name == "custom":
			for _, m := range mode.Models {
				if m.Usable == "yes" {
					c.models = append(c.models, m.Name)
				}
			}
		}
	}
	return c, nil
}

func (p *Probe) variant(kvm bool) string {
	if kvm {
		return variantKVM
	}
	return variantTCG
}

func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the node's probe: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's probe: %w", err)
	}
	return raw, nil
}

// HostModel tells whether the probe found the node's host-model CPU.
func (p *Probe) HostModel() bool { return p != nil && p.cpu.hostModel != "" }

// CapabilitiesCache is libvirt's cache for pods with or without KVM; nil if there is none, which costs a pod a second. It is
// read when it is wanted: it is large, and pods start seldom.
func (p *Probe) CapabilitiesCache(kvm bool) map[string][]byte {
	if p == nil {
		return nil
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	dir := cacheDir(p.variant(kvm))
	entries, err := fs.ReadDir(root.FS(), dir)
	if err != nil || len(entries) > maxFiles {
		return nil
	}
	files := make(map[string][]byte, len(entries))
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if files[e.Name()], err = readFile(root, path.Join(dir, e.Name())); err != nil {
			return nil
		}
	}
	return files
}
