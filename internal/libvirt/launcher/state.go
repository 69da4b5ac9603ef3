package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"virtctl/internal/libvirt/layout"
)

// linkState leads libvirt to the claim that keeps the VM's firmware variables and TPM, if the pod has one mounted at claim. The
// claim cannot be mounted where libvirt writes: the runtime would make the directories above as root.
func linkState(claim string) error {
	if _, err := os.Stat(claim); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, l := range []struct{ at, to string }{
		{layout.NVRAMDir, layout.StateNVRAM}, {layout.TPMDir, layout.StateTPM},
	} {
		if err := linkDir(l.at, l.to); err != nil {
			return fmt.Errorf("use the claim of the VM's state: %w", err)
		}
	}
	return nil
}

// linkDir makes at a link to the directory to, which is made when it is missing. An empty directory in its place goes.
func linkDir(at, to string) error {
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	if have, err := os.Readlink(at); err == nil && have == to {
		return nil
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(to, at)
}
