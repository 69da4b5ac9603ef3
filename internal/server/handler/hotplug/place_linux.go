// Package hotplug makes a volume that one pod holds appear in a launcher pod, while that runs and without any privilege in it.
//
// kubelet brings the volume to an attachment pod as to every pod. Its disk image or device is cloned as a mount in the attachment
// pod's mount namespace and moved into the launcher's. Nothing of it is visible on the node, so nothing is left there when either
// pod goes. Every name on the way is resolved beneath a directory and without following links (CVE-2022-1798): what is in the
// volume, and in the launcher's directory, is the user's to decide.
package hotplug

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Place is a name in a pod's mount namespace.
type Place struct {
	// Mounts is the pod's mount namespace.
	Mounts *os.File
	// Dir is a directory that the pod's image and manifest decide, Name a file in it that the user may have made.
	Dir, Name string
}

// inNamespaces runs fn on a thread of its own that may enter mount namespaces and ends afterwards.
func inNamespaces(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends a thread whose goroutine ends so, and nobody else runs in another pod's namespace.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- fmt.Errorf("prepare a thread: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// enter makes the thread see what the pod sees and opens the place's directory.
func (p Place) enter() (dir int, err error) {
	if err := unix.Setns(int(p.Mounts.Fd()), unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("enter the pod's mount namespace: %w", err)
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the pod's root: %w", err)
	}
	defer unix.Close(root)
	// Links in the image (/var/run) are followed inside the pod; its user can change none of them.
	how := &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if dir, err = openat2(root, strings.TrimPrefix(p.Dir, "/"), how); err != nil {
		return -1, fmt.Errorf("open %s in the pod: %w", p.Dir, err)
	}
	return dir, nil
}

func openat2(dir int, name string, how *unix.OpenHow) (int, error) {
	for {
		fd, err := unix.Openat2(dir, name, how)
		// EAGAIN: a directory was renamed meanwhile.
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

const strictly = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// open opens the place's file, whatever mount it is on.
func (p Place) open(dir int) (int, error) {
	if p.Name == "" || p.Name != path.Base(p.Name) || p.Name == "." || p.Name == ".." {
		return -1, fmt.Errorf("%q is not a file name", p.Name)
	}
	fd, err := openat2(dir, p.Name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: strictly})
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path.Join(p.Dir, p.Name), err)
	}
	return fd, nil
}

// Volume is what a place was found to hold.
type Volume struct {
	// Block tells that it is a device, with these numbers; else it is a disk image.
	Block        bool
	Major, Minor uint32
}

// Bind makes what is at from appear at to, owned by user when it is a device. Doing so again changes nothing.
func Bind(from, to Place, user int) (Volume, error) {
	var volume Volume
	err := inNamespaces(func() error {
		tree, found, err := clone(from, user)
		if err != nil {
			return err
		}
		defer unix.Close(tree)
		volume = describe(found)
		return attach(tree, found, to)
	})
	return volume, err
}

func describe(st unix.Stat_t) Volume {
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Volume{}
	}
	return Volume{Block: true, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
}

// clone gives a mount of the one file, which is attached nowhere yet.
func clone(from Place, user int) (tree int, found unix.Stat_t, err error) {
	dir, err := from.enter()
	if err != nil {
		return -1, found, err
	}
	defer unix.Close(dir)
	fd, err := from.open(dir)
	if err != nil {
		return -1, found, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &found); err != nil {
		return -1, found, fmt.Errorf("look at the volume: %w", err)
	}
	switch found.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFBLK:
		// The runtime made the node for the attachment pod alone; kubelet's owner is root.
		if err := unix.Fchownat(fd, "", user, user, unix.AT_EMPTY_PATH); err != nil {
			return -1, found, fmt.Errorf("give the device to the launcher: %w", err)
		}
	default:
		return -1, found, fmt.Errorf("%s is neither a disk image nor a block device", path.Join(from.Dir, from.Name))
	}
	tree, err = unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, found, fmt.Errorf("clone the volume's mount: %w", err)
	}
	return tree, found, nil
}

func attach(tree int, source unix.Stat_t, to Place) error {
	dir, err := to.enter()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	switch same, err := holds(dir, to, source); {
	case err != nil:
		return err
	case same:
		return nil
	}
	how := &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC, Mode: 0o600,
		Resolve: strictly | unix.RESOLVE_NO_XDEV,
	}
	target, err := openat2(dir, to.Name, how)
	if err != nil {
		return fmt.Errorf("make %s: %w", path.Join(to.Dir, to.Name), err)
	}
	defer unix.Close(target)
	if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the volume in the launcher pod: %w", err)
	}
	return nil
}

// holds tells whether the volume is mounted there already. Another one in its place is taken away.
func holds(dir int, to Place, source unix.Stat_t) (bool, error) {
	fd, err := to.open(dir)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", path.Join(to.Dir, to.Name), err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == source.Rdev || st.Dev == source.Dev && st.Ino == source.Ino {
		return true, nil
	}
	return false, detach(dir, to.Name)
}

// Release takes the mount at a place away, and the empty file under it, and tells what it was. Doing so again changes nothing.
func Release(at Place) (Volume, error) {
	var was Volume
	err := inNamespaces(func() error {
		dir, err := at.enter()
		if err != nil {
			return err
		}
		defer unix.Close(dir)
		fd, err := at.open(dir)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		_ = unix.Close(fd)
		if err != nil {
			return fmt.Errorf("look at %s: %w", path.Join(at.Dir, at.Name), err)
		}
		was = describe(st)
		return detach(dir, at.Name)
	})
	return was, err
}

// detach works by name in the directory: the kernel has no call that unmounts a descriptor.
func detach(dir int, name string) error {
	if err := unix.Fchdir(dir); err != nil {
		return fmt.Errorf("go to the launcher's directory: %w", err)
	}
	err := unix.Unmount(name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount the volume from the launcher pod: %w", err)
	}
	if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
