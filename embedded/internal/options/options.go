// Package options holds the settings of one embedded cluster. They are written beside the cluster's state, so that every
// later command finds the cluster from its state directory alone.
package options

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
)

// Options are the settings of one instance.
type Options struct {
	// Instance tells two clusters on one machine apart; it goes into the names of cgroups, links and tables.
	Instance string `json:"instance"`
	// Nodes is the number of nodes, each in its own namespaces.
	Nodes int `json:"nodes"`
	// StateDir survives a reboot; RunDir does not have to.
	StateDir string `json:"stateDir"`
	RunDir   string `json:"runDir"`
	// PodCIDR, ServiceCIDR and NodeCIDR are IPv4; the 6 variants are IPv6 and empty for a single-stack cluster.
	PodCIDR      string `json:"podCIDR"`
	PodCIDR6     string `json:"podCIDR6,omitempty"`
	ServiceCIDR  string `json:"serviceCIDR"`
	ServiceCIDR6 string `json:"serviceCIDR6,omitempty"`
	NodeCIDR     string `json:"nodeCIDR"`
	NodeCIDR6    string `json:"nodeCIDR6,omitempty"`
	// Bridge is the host's bridge between the nodes.
	Bridge string `json:"bridge"`
	// APIServerPort is on the host.
	APIServerPort int `json:"apiserverPort"`
	// MaxPods is the kubelet's limit per node.
	MaxPods int `json:"maxPods"`
	// Audit writes the API server's audit log at level Metadata.
	Audit bool `json:"audit"`
	// Expose lets other machines reach the API server; without it only this machine and the nodes can.
	Expose bool `json:"expose"`
}

// Default returns the settings used when none are given.
func Default() Options {
	return Options{
		Instance:      "default",
		Nodes:         1,
		StateDir:      "/var/lib/virt-kube",
		RunDir:        "/run/virt-kube",
		PodCIDR:       "10.244.0.0/16",
		PodCIDR6:      "fd00:10:244::/56",
		ServiceCIDR:   "10.96.0.0/16",
		ServiceCIDR6:  "fd00:10:96::/112",
		NodeCIDR:      "10.213.0.0/24",
		NodeCIDR6:     "fd00:10:213::/64",
		Bridge:        "vkbr0",
		APIServerPort: 6443,
		MaxPods:       250,
	}
}

// MaxNodes is what the address plan has room for.
const MaxNodes = 99

// maxRunDir leaves room for the names of sockets below it.
const maxRunDir = 80

var (
	instanceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	bridgeName   = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]{0,9}$`)
)

// Validate reports the first setting that cannot work.
func (o Options) Validate() error {
	if !instanceName.MatchString(o.Instance) {
		return fmt.Errorf("instance %q: use at most 32 lower-case letters, digits and dashes", o.Instance)
	}
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return fmt.Errorf("nodes %d: use 1 to %d", o.Nodes, MaxNodes)
	}
	if !bridgeName.MatchString(o.Bridge) {
		return fmt.Errorf("bridge %q: use at most 10 letters, digits, dots, dashes and underscores", o.Bridge)
	}
	for name, dir := range map[string]string{"state-dir": o.StateDir, "run-dir": o.RunDir} {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
			return fmt.Errorf("%s %q: use an absolute directory of its own", name, dir)
		}
	}
	if len(o.RunDir) > maxRunDir {
		return fmt.Errorf("run-dir %q: use at most %d characters, the paths of unix sockets are limited", o.RunDir, maxRunDir)
	}
	if o.APIServerPort < 1 || o.APIServerPort > 65535 {
		return fmt.Errorf("apiserver-port %d: use 1 to 65535", o.APIServerPort)
	}
	return o.validateCIDRs()
}

func (o Options) validateCIDRs() error {
	cidrs := []struct {
		name, value string
		v6          bool
		minBits     int
		maxBits     int
	}{
		{"pod-cidr", o.PodCIDR, false, 8, 17},
		{"service-cidr", o.ServiceCIDR, false, 12, 24},
		{"node-cidr", o.NodeCIDR, false, 8, 24},
		{"pod-cidr6", o.PodCIDR6, true, 32, 57},
		{"service-cidr6", o.ServiceCIDR6, true, 108, 112},
		{"node-cidr6", o.NodeCIDR6, true, 32, 64},
	}
	var parsed []netip.Prefix
	for _, c := range cidrs {
		if c.v6 && c.value == "" {
			continue
		}
		p, err := netip.ParsePrefix(c.value)
		if err != nil {
			return fmt.Errorf("%s %q: %w; write it like %s", c.name, c.value, err, "10.244.0.0/16")
		}
		if p.Addr().Is4() == c.v6 || p != p.Masked() || p.Bits() < c.minBits || p.Bits() > c.maxBits {
			return fmt.Errorf("%s %q: use the network address of a /%d to /%d of the right family", c.name, c.value, c.minBits, c.maxBits)
		}
		for _, other := range parsed {
			if other.Overlaps(p) {
				return fmt.Errorf("%s %s overlaps %s: choose separate ranges", c.name, p, other)
			}
		}
		parsed = append(parsed, p)
	}
	if v6 := []string{o.PodCIDR6, o.ServiceCIDR6, o.NodeCIDR6}; (v6[0] == "") != (v6[1] == "") || (v6[0] == "") != (v6[2] == "") {
		return errors.New("pod-cidr6, service-cidr6 and node-cidr6: give all three, or none for IPv4 only")
	}
	return nil
}

// DualStack tells whether pods, services and nodes have IPv6 addresses too.
func (o Options) DualStack() bool { return o.PodCIDR6 != "" }

// NodeName returns the name of node i, counted from 1.
func NodeName(i int) string { return fmt.Sprintf("node%02d", i) }

// NodeNames returns the names of all nodes.
func (o Options) NodeNames() []string {
	names := make([]string, o.Nodes)
	for i := range names {
		names[i] = NodeName(i + 1)
	}
	return names
}

const file = "cluster.json"

// Save writes the settings beside the state.
func (o Options) Save() error {
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	tmp := filepath.Join(o.StateDir, file+".new")
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return os.Rename(tmp, filepath.Join(o.StateDir, file))
}

// ErrNoCluster says that a state directory holds no cluster.
var ErrNoCluster = errors.New("no embedded cluster")

// Load reads the settings of the cluster whose state is in dir.
func Load(dir string) (Options, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return Options{}, fmt.Errorf("%w in %s: start one with 'virt-kube up'", ErrNoCluster, dir)
	}
	if errors.Is(err, fs.ErrPermission) {
		return Options{}, fmt.Errorf("read settings: %w; run it with sudo", err)
	}
	if err != nil {
		return Options{}, fmt.Errorf("read settings: %w", err)
	}
	o := Default()
	if err := json.Unmarshal(data, &o); err != nil {
		return Options{}, fmt.Errorf("read settings %s: %w; remove it and run 'virt-kube up' again", filepath.Join(dir, file), err)
	}
	o.StateDir = dir
	return o, o.Validate()
}
