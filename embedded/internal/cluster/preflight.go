package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"virtctl/embedded/internal/cgroup"
	"virtctl/embedded/internal/options"
)

// minFree is the disk space below which kubelets would evict everything soon after the start.
const minFree = 2 << 30

// check is one thing that a machine must have.
type check struct {
	name string
	run  func(options.Options) error
}

// machine is what the checks look at; tests put another in its place.
type machine struct {
	uid         func() int
	lookPath    func(string) (string, error)
	filesystems string
	free        func(dir string) (uint64, error)
	listen      func(address string) error
	cgroups     func() error
}

func thisMachine() machine {
	return machine{
		uid: os.Geteuid, lookPath: exec.LookPath, filesystems: "/proc/filesystems", free: freeSpace, listen: tryListen,
		cgroups: func() error { _, err := cgroup.Hierarchies(); return err },
	}
}

func (m machine) checks() []check {
	return []check{
		{"root", m.checkRoot},
		{"programs", m.checkPrograms},
		{"file systems", m.checkFilesystems},
		{"cgroups", func(options.Options) error { return m.cgroups() }},
		{"disk space", m.checkDisk},
		{"ports", m.checkPorts},
	}
}

// Preflight reports everything about this machine that would keep a cluster from starting.
func Preflight(o options.Options) error { return thisMachine().preflight(o) }

func (m machine) preflight(o options.Options) error {
	if err := m.checkRoot(o); err != nil {
		return err // without it the other answers mean little
	}
	var errs []error
	for _, c := range m.checks() {
		errs = append(errs, c.run(o))
	}
	return errors.Join(errs...)
}

func (m machine) checkRoot(options.Options) error {
	if m.uid() != 0 {
		return ErrNotRoot
	}
	return nil
}

// programs are what the distribution has to bring, by Debian package.
func programs() map[string]string {
	return map[string]string{
		"runc": "runc", "nft": "nftables", "iptables": "iptables", "losetup": "mount", "mkfs.ext4": "e2fsprogs", "mount": "mount",
	}
}

func (m machine) checkPrograms(options.Options) error {
	var missing, packages []string
	for _, p := range []string{"runc", "nft", "iptables", "losetup", "mkfs.ext4", "mount"} {
		if _, err := m.lookPath(p); err != nil {
			missing = append(missing, p)
			if pkg := programs()[p]; !slices.Contains(packages, pkg) {
				packages = append(packages, pkg)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s; run 'apt-get install %s'", strings.Join(missing, ", "), strings.Join(packages, " "))
	}
	return nil
}

func (m machine) checkFilesystems(options.Options) error {
	f, err := os.Open(m.filesystems)
	if err != nil {
		return fmt.Errorf("read the kernel's file systems: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 && fields[len(fields)-1] == "overlay" {
			return lines.Err()
		}
	}
	return errors.New("the kernel has no overlayfs, which images need; run 'modprobe overlay' or use a kernel with CONFIG_OVERLAY_FS")
}

func (m machine) checkDisk(o options.Options) error {
	free, err := m.free(o.StateDir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", o.StateDir, err)
	}
	if free < minFree {
		return fmt.Errorf("disk full: %s has %d MiB free and needs %d; free some or choose another --state-dir", o.StateDir, free>>20, minFree>>20)
	}
	return nil
}

func (m machine) checkPorts(o options.Options) error {
	err := m.listen(net.JoinHostPort("", strconv.Itoa(o.APIServerPort)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %[1]d is taken: find out by whom with 'ss -ltnp sport = :%[1]d', or choose another with --apiserver-port",
			o.APIServerPort)
	}
	return err
}

func freeSpace(dir string) (uint64, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}

func tryListen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}
