package hotplug

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// nodeCgroups is where the node mounts its control groups; virt-handler's own container need not see them.
const nodeCgroups = "/proc/1/root/sys/fs/cgroup"

// Container is a running container whose devices are decided.
type Container struct {
	// Mounts is its mount namespace, Cgroup reads /proc/PID/cgroup of a process of it.
	Mounts *os.File
	Cgroup func() ([]byte, error)
	// Dirs are the directories in which it has devices, beside /dev.
	Dirs []string
}

// Permit lets the container open a device that was bound into it, or one no longer that was released. Version 1 of control groups
// keeps a list. Version 2 asks a program, which is replaced by one that knows the devices the container has now.
func (c Container) Permit(v Volume, allow bool) error {
	if !v.Block {
		return nil
	}
	cgroups, err := c.Cgroup()
	if err != nil {
		return fmt.Errorf("find the launcher's control group: %w", err)
	}
	if group, ok := controlGroup(string(cgroups), "devices"); ok {
		return permitV1(path.Join(nodeCgroups, "devices", group), v, allow)
	}
	return inNamespaces(func() error {
		group, err := c.unified()
		if err != nil {
			return err
		}
		rules, err := c.present()
		if err != nil {
			return err
		}
		defer unix.Close(group)
		return replacePrograms(group, program(rules))
	})
}

// controlGroup finds the group of a controller of version 1, or with no name that of version 2, in lines like 5:devices:/kubepods.
func controlGroup(cgroups, controller string) (string, bool) {
	for line := range strings.Lines(cgroups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && slices.Contains(strings.Split(parts[1], ","), controller) && (controller != "" || parts[0] == "0") {
			return path.Clean("/" + parts[2]), true
		}
	}
	return "", false
}

func permitV1(group string, v Volume, allow bool) error {
	file := "devices.deny"
	if allow {
		file = "devices.allow"
	}
	f, err := os.OpenFile(path.Join(group, file), os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) && !allow {
		return nil // the pod has gone
	}
	if err != nil {
		return fmt.Errorf("open the launcher's control group: %w", err)
	}
	_, err = fmt.Fprintf(f, "b %d:%d rwm", v.Major, v.Minor)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("let the launcher use device %d:%d: %w", v.Major, v.Minor, err)
	}
	return nil
}

// unified opens the container's group of version 2. The thread takes the node's view of control groups first: what /proc says is
// relative to the reader's.
func (c Container) unified() (int, error) {
	view, err := os.Open("/proc/1/ns/cgroup")
	if err != nil {
		return -1, fmt.Errorf("find the node's control groups: %w", err)
	}
	defer view.Close()
	if err := unix.Setns(int(view.Fd()), unix.CLONE_NEWCGROUP); err != nil {
		return -1, fmt.Errorf("take the node's view of control groups: %w", err)
	}
	cgroups, err := c.Cgroup()
	if err != nil {
		return -1, err
	}
	group, ok := controlGroup(string(cgroups), "")
	if !ok {
		return -1, errors.New("the launcher's process is in no control group")
	}
	fd, err := unix.Open(path.Join(nodeCgroups, group), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the launcher's control group: %w", err)
	}
	return fd, nil
}

// present are the devices that the container has: those the runtime gave it, and the plugged ones. Its processes can make none.
func (c Container) present() ([]rule, error) {
	rules := terminals()
	for _, dir := range append([]string{"/dev", "/dev/net", "/dev/vfio"}, c.Dirs...) {
		fd, err := Place{Mounts: c.Mounts, Dir: dir}.enter()
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := devicesIn(fd)
		_ = unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("list %s in the pod: %w", dir, err)
		}
		rules = append(rules, found...)
	}
	slices.SortFunc(rules, rule.compare)
	return slices.Compact(rules), nil
}

// maxDevices bounds what is read of a directory.
const maxDevices = 512

func devicesIn(dir int) ([]rule, error) {
	readable, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(readable), "devices")
	defer f.Close()
	names, err := f.Readdirnames(maxDevices)
	if err != nil && len(names) > 0 {
		return nil, err
	}
	var rules []rule
	for _, name := range names {
		var st unix.Stat_t
		if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue // gone meanwhile
		}
		at := rule{major: int64(unix.Major(st.Rdev)), minor: int64(unix.Minor(st.Rdev))}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFBLK:
			at.kind = blockDevice
		case unix.S_IFCHR:
			at.kind = charDevice
		default:
			continue
		}
		rules = append(rules, at)
	}
	return rules, nil
}
