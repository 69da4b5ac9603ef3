package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/options"
)

// SharedFile is where the instances of a machine agree on what they share.
const SharedFile = "/run/virt-kube-host.json"

// shared is what all instances of a machine have in common: the kernel's settings before the first of them changed any, and what
// each has taken.
type shared struct {
	Before    Sysctls                    `json:"before"`
	Instances map[string]options.Options `json:"instances"`
}

// Claim takes an instance's name, bridge and ranges, unless another running instance has one of them: two that share a name would end
// each other's processes. The caller holds the instance's lock.
func Claim(o options.Options) error { return claim(SharedFile, o) }

func claim(path string, o options.Options) error {
	return updateShared(path, func(s *shared) error {
		for name, other := range s.Instances {
			if other.LockFile() == o.LockFile() || !held(other.LockFile()) {
				continue // ourselves, or a killed one
			}
			if err := conflict(o, other); err != nil {
				return fmt.Errorf("instance %s (state in %s) is running: %w", name, other.StateDir, err)
			}
		}
		s.Instances[o.Instance] = o
		return nil
	})
}

// conflict says what two instances cannot both have.
func conflict(o, other options.Options) error {
	if o.Instance == other.Instance {
		return errors.New("choose another name with --instance")
	}
	if o.Bridge == other.Bridge {
		return fmt.Errorf("it has bridge %s: choose another with --bridge", o.Bridge)
	}
	for _, mine := range ranges(o) {
		for _, theirs := range ranges(other) {
			if mine.Overlaps(theirs) {
				return fmt.Errorf("its range %s overlaps %s: choose others with --pod-cidr, --service-cidr, --node-cidr and their IPv6 companions", theirs, mine)
			}
		}
	}
	return nil
}

func ranges(o options.Options) []netip.Prefix {
	var out []netip.Prefix
	for _, v := range []string{o.PodCIDR, o.PodCIDR6, o.ServiceCIDR, o.ServiceCIDR6, o.NodeCIDR, o.NodeCIDR6} {
		if p, err := netip.ParsePrefix(v); err == nil {
			out = append(out, p)
		}
	}
	return slices.Clip(out)
}

// setSysctls sets what an instance needs and remembers what was there before.
func setSysctls(path string, want Sysctls) error {
	return updateShared(path, func(s *shared) error {
		before, err := want.Apply()
		for name, value := range before {
			if _, known := s.Before[name]; !known {
				s.Before[name] = value
			}
		}
		return err
	})
}

// Release gives back what Claim took, and the kernel's settings when no other instance needs them.
func Release(o options.Options) error { return release(SharedFile, o) }

func release(path string, o options.Options) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return updateShared(path, func(s *shared) error {
		for name, other := range s.Instances {
			if other.LockFile() == o.LockFile() || !held(other.LockFile()) {
				delete(s.Instances, name)
			}
		}
		if len(s.Instances) > 0 {
			return nil
		}
		_, err := s.Before.Apply()
		return err
	})
}

// held tells whether somebody holds a lock file.
func held(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// updateShared changes the file under its own lock; without instances it is removed.
func updateShared(path string, change func(*shared) error) error {
	f, err := lockFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := shared{}
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("read %s: %w; remove it", path, err)
		}
	}
	if s.Before == nil {
		s.Before = Sysctls{}
	}
	if s.Instances == nil {
		s.Instances = map[string]options.Options{}
	}
	changeErr := change(&s)
	if len(s.Instances) == 0 {
		return errors.Join(changeErr, os.Remove(path))
	}
	if data, err = json.Marshal(s); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return changeErr
}

// lockFile opens and locks a file that others may remove meanwhile.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		locked, err1 := f.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(locked, there) {
			return f, nil
		}
		_ = f.Close()
	}
}
