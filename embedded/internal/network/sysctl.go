package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sysctls are kernel settings by their path below /proc/sys.
type Sysctls map[string]string

// Apply sets what differs and returns what was there before. A setting that this kernel does not have is left out.
func (s Sysctls) Apply() (before Sysctls, err error) {
	before = Sysctls{}
	for name, want := range s {
		path := filepath.Join("/proc/sys", name)
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return before, fmt.Errorf("read sysctl %s: %w", name, err)
		}
		have := strings.TrimSpace(string(data))
		if have == want {
			continue
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			return before, fmt.Errorf("set sysctl %s=%s: %w; set it by hand", name, want, err)
		}
		before[name] = have
	}
	return before, nil
}

// hostSysctls are what routing between the nodes and the world needs, and what a kubelet sets for the whole machine.
func hostSysctls() (Sysctls, error) {
	s := Sysctls{
		"net/ipv4/ip_forward":          "1",
		"net/ipv6/conf/all/forwarding": "1",
		"vm/overcommit_memory":         "1",
		"vm/panic_on_oom":              "0",
		"kernel/panic":                 "10",
		"kernel/panic_on_oops":         "1",
		"kernel/keys/root_maxkeys":     "1000000",
		"kernel/keys/root_maxbytes":    "25000000",
		// Every kubelet, containerd and pod watches files; the default of 128 is used up by a few dozen pods.
		"fs/inotify/max_user_instances": "8192",
		"fs/inotify/max_user_watches":   "524288",
	}
	// A router ignores router advertisements unless told otherwise: the host would lose its own IPv6 default route.
	paths, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		name := strings.TrimPrefix(path, "/proc/sys/")
		if data, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(data)) == "1" {
			s[name] = "2"
		}
	}
	return s, nil
}
