package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/options"
)

// SharedFile is where the instances of a machine agree on the machine's settings.
const SharedFile = "/run/virt-kube-host.json"

// shared is what all instances of a machine have in common: the kernel's settings before the first of them changed any, and who
// still needs the changed ones.
type shared struct {
	Before Sysctls `json:"before"`
	// Users maps an instance's name to the lock file that its server holds.
	Users map[string]string `json:"users"`
}

// acquireSysctls sets what an instance needs and remembers what was there before.
func acquireSysctls(path string, o options.Options, want Sysctls) error {
	return updateShared(path, func(s *shared) error {
		before, err := want.Apply()
		for name, value := range before {
			if _, known := s.Before[name]; !known {
				s.Before[name] = value
			}
		}
		s.Users[o.Instance] = o.LockFile()
		return err
	})
}

// releaseSysctls restores the settings when no other instance needs them.
func releaseSysctls(path string, o options.Options) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return updateShared(path, func(s *shared) error {
		delete(s.Users, o.Instance)
		for name, lock := range s.Users {
			if !held(lock) { // its server was killed
				delete(s.Users, name)
			}
		}
		if len(s.Users) > 0 {
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

// updateShared changes the file under its own lock; without users it is removed.
func updateShared(path string, change func(*shared) error) error {
	f, err := lockFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := shared{Before: Sysctls{}, Users: map[string]string{}}
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("read %s: %w; remove it", path, err)
		}
	}
	changeErr := change(&s)
	if len(s.Users) == 0 {
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
