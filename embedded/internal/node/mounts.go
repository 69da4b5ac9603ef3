package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/render"
)

// BootIDFile, in a node's directory, holds the boot id of the node's present life.
const BootIDFile = "boot_id"

// ownDirs are the directories of a node that show nothing of the host: what agents keep there must not meet another node's.
func ownDirs() []string { return []string{"/var/lib", "/var/log"} }

// layeredDirs show the host's files, and keep changes to themselves.
func layeredDirs() []string { return []string{"/etc", "/opt"} }

// mounter builds a node's view of the file system in its own mount namespace.
type mounter struct {
	options options.Options
	plan    plan.Cluster
	node    string
	dir     string
	// state keeps hold of the state directory while directories above it are replaced.
	state *os.File
}

func setupMounts(o options.Options, c plan.Cluster, node string) error {
	state, err := os.Open(o.StateDir)
	if err != nil {
		return fmt.Errorf("open state directory: %w", err)
	}
	defer state.Close()
	m := mounter{options: o, plan: c, node: node, dir: o.NodeDir(node), state: state}
	for _, step := range []func() error{
		m.detach, m.proc, m.sysfs, m.directories, m.stateDir, m.files, m.kubelet, m.share,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind+source, target, err)
	}
	return nil
}

// detach keeps this namespace's mounts away from the host; the host's unmounts still reach it, so that nothing stays busy here.
func (m mounter) detach() error { return mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "") }

// share lets mounts of pods with propagation reach the node, and the node's reach them.
func (m mounter) share() error { return mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") }

// proc shows the node's own processes, and a boot id that changes when the node starts again.
func (m mounter) proc() error {
	if err := mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	path := filepath.Join(m.dir, BootIDFile)
	if err := os.WriteFile(path, []byte(uuid()+"\n"), 0o444); err != nil {
		return fmt.Errorf("write boot id: %w", err)
	}
	return mount(path, "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, "")
}

// sysfs shows the network links of the namespace it was mounted in; the cgroups move from the old one to the new.
func (m mounter) sysfs() error {
	cgroups, err := unix.OpenTree(unix.AT_FDCWD, "/sys/fs/cgroup", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("copy the cgroup mounts: %w", err)
	}
	defer unix.Close(cgroups)
	if err := mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := unix.MoveMount(cgroups, "", unix.AT_FDCWD, "/sys/fs/cgroup", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move the cgroup mounts: %w", err)
	}
	return nil
}

func (m mounter) directories() error {
	for _, target := range ownDirs() {
		source := filepath.Join(m.dir, strings.ReplaceAll(target[1:], "/", "-"))
		if err := os.MkdirAll(source, 0o755); err != nil {
			return fmt.Errorf("make node directory: %w", err)
		}
	}
	for _, target := range layeredDirs() {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("make node directory: %w", err)
		}
		upper, work := filepath.Join(m.dir, target[1:]), filepath.Join(m.dir, target[1:]+"-work")
		for _, dir := range []string{upper, work} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make node directory: %w", err)
			}
		}
		data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", target, upper, work)
		if err := mount("overlay", target, "overlay", 0, data); err != nil {
			return err
		}
	}
	for _, target := range ownDirs() {
		source := filepath.Join(m.dir, strings.ReplaceAll(target[1:], "/", "-"))
		if err := m.bindFromState(source, target); err != nil {
			return err
		}
	}
	return mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755")
}

// bindFromState binds a directory of the state directory, whose own path may already be hidden.
func (m mounter) bindFromState(source, target string) error {
	rel, err := filepath.Rel(m.options.StateDir, source)
	if err != nil {
		return err
	}
	return mount(fmt.Sprintf("/proc/self/fd/%d/%s", m.state.Fd(), rel), target, "", unix.MS_BIND, "")
}

// stateDir brings the state directory back to its path when one of the mounts above hid it.
func (m mounter) stateDir() error {
	here, err := os.Stat(m.options.StateDir)
	want, err2 := m.state.Stat()
	if err == nil && err2 == nil && os.SameFile(here, want) {
		return nil
	}
	if err := os.MkdirAll(m.options.StateDir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	return mount(fmt.Sprintf("/proc/self/fd/%d", m.state.Fd()), m.options.StateDir, "", unix.MS_BIND|unix.MS_REC, "")
}

// files writes what tells one node from another, into the node's own layer of /etc.
func (m mounter) files() error {
	id, err := os.ReadFile(filepath.Join(m.dir, "machine-id"))
	if errors.Is(err, fs.ErrNotExist) {
		id = []byte(strings.ReplaceAll(uuid(), "-", "") + "\n")
		err = os.WriteFile(filepath.Join(m.dir, "machine-id"), id, 0o444)
	}
	if err != nil {
		return fmt.Errorf("node's machine id: %w", err)
	}
	for path, data := range map[string][]byte{
		"/etc/machine-id": id,
		"/etc/hostname":   []byte(m.node + "\n"),
		render.ResolvConf: render.NodeResolvConf(m.plan),
		"/etc/hosts":      m.hosts(),
	} {
		// The host's file may be a link to somewhere under /run, which is empty here.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	for _, dir := range []string{render.CNIConfDir, "/opt/cni/bin", "/run/lock"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make node directory: %w", err)
		}
	}
	return nil
}

func (m mounter) hosts() []byte {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, n := range m.plan.Nodes {
		for _, p := range n.IPs {
			fmt.Fprintf(&b, "%s %s\n", p.Addr(), n.Name)
		}
	}
	return []byte(b.String())
}

// kubelet makes the kubelet's directory a mount of its own, which propagation needs.
func (m mounter) kubelet() error {
	for _, dir := range []string{render.KubeletRoot, render.ContainerdRoot} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make node directory: %w", err)
		}
	}
	return mount(render.KubeletRoot, render.KubeletRoot, "", unix.MS_BIND, "")
}

// uuid makes a random (version 4) identifier.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
