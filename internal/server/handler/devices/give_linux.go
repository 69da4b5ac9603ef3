package devices

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"virtctl/internal/server/handler/beneath"
)

// Give makes a user the owner of a device node inside a container, whose root directory is given. Only a node that the runtime
// made for this container alone is changed: one that is the node's own, bound into the container, belongs to everybody.
func Give(root *os.File, d Device, uid int) error {
	dir, err := beneath.Open(root, "dev", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := beneath.OpenSameMount(dir, strings.TrimPrefix(d.Path, "/dev/"), unix.O_PATH)
	if errors.Is(err, unix.EXDEV) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	kind, rdev, err := beneath.Type(f)
	if err != nil {
		return err
	}
	want, err := d.number()
	if err != nil {
		return err
	}
	if kind != unix.S_IFCHR || rdev != want {
		return fmt.Errorf("%s in the container is not that device", d.Path)
	}
	if err := unix.Fchownat(int(f.Fd()), "", uid, uid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("change the owner of %s: %w", d.Path, err)
	}
	return nil
}

// number is the device's number on this node.
func (d Device) number() (uint64, error) {
	if d.Major != 0 {
		return unix.Mkdev(d.Major, d.Minor), nil
	}
	var node unix.Stat_t
	if err := unix.Stat(d.On+d.Path, &node); err != nil {
		return 0, fmt.Errorf("look for the node's %s: %w", d.Path, err)
	}
	return node.Rdev, nil
}
