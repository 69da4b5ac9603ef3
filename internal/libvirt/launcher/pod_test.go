//go:build libvirt

package launcher_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/process"
	"virtctl/internal/libvirt/wire"
)

// These tests run the real program on the real libvirt and QEMU of the launcher image, in something like a pod: own mount, PID,
// network, UTS and IPC namespaces, read-only root, uid 107, no capability, a resolver that does not answer. They need root, the
// images (`make images`) and libvirt-dev. LAUNCHER_ROOTFS, LAUNCHER_KERNEL and LAUNCHER_INITRD choose others than the built ones.

// patience bounds every wait for an emulated guest on a busy machine.
const patience = 2 * time.Minute

const podEnv = "LAUNCHER_TEST_POD"

func TestMain(m *testing.M) {
	if root := os.Getenv(podEnv); root != "" {
		if err := becomePod(root, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "pod:", err)
			os.Exit(125)
		}
	}
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// becomePod runs as PID 1 of new namespaces, makes them look like a pod and executes args.
func becomePod(dir string, args []string) error {
	rootfs, extra := os.Getenv("LAUNCHER_TEST_ROOTFS"), os.Getenv("LAUNCHER_TEST_EXTRA")
	type mount struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}
	root := filepath.Join(dir, "root")
	mounts := []mount{
		{"none", "/", "", syscall.MS_REC | syscall.MS_PRIVATE, ""},
		// What a container runtime puts on top of an image: files about names.
		{"overlay", root, "overlay", syscall.MS_RDONLY, "lowerdir=" + filepath.Join(dir, "names") + ":" + rootfs},
		{"proc", root + "/proc", "proc", 0, ""},
		{"sysfs", root + "/sys", "sysfs", syscall.MS_RDONLY, ""},
		{filepath.Join(dir, "dev"), root + "/dev", "", syscall.MS_BIND | syscall.MS_REC, ""},
		{filepath.Join(dir, "run"), root + "/run", "", syscall.MS_BIND, ""},
		// swtpm_setup insists on /tmp.
		{filepath.Join(dir, "tmp"), root + "/tmp", "", syscall.MS_BIND, ""},
	}
	devices := filepath.Join(dir, "dev")
	names := []string{"null", "zero", "full", "random", "urandom", "tty"}
	if _, err := os.Stat("/dev/kvm"); err == nil && os.Getenv("LAUNCHER_TEST_ROOT") != "" {
		names = append(names, "kvm")
	}
	for _, name := range names {
		target := filepath.Join(devices, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, nil, 0o666); err != nil {
			return err
		}
		mounts = append(mounts[:1:1], append([]mount{{"/dev/" + name, target, "", syscall.MS_BIND, ""}}, mounts[1:]...)...)
	}
	if err := os.MkdirAll(filepath.Join(devices, "net"), 0o755); err != nil {
		return err
	}
	mounts = append(mounts, mount{"tmpfs", root + "/dev/net", "tmpfs", 0, "mode=0755"})
	if extra != "" {
		from, to, _ := strings.Cut(extra, ":")
		mounts = append(mounts, mount{from, root + to, "", syscall.MS_BIND, ""})
	}
	for _, m := range mounts {
		if err := syscall.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	// The node may keep its own to root; virt-handler lets launchers open theirs.
	tun := root + "/dev/net/tun"
	if err := errors.Join(syscall.Mknod(tun, syscall.S_IFCHR, int(unix.Mkdev(10, 200))), os.Chmod(tun, 0o666)); err != nil {
		return fmt.Errorf("make %s: %w", tun, err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	if setup := os.Getenv("LAUNCHER_TEST_SETUP"); setup != "" {
		if out, err := exec.Command("sh", "-ec", setup).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", setup, err, out)
		}
	}
	if err := syscall.Sethostname([]byte("web")); err != nil {
		return err
	}
	if err := syscall.Chroot(root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if os.Getenv("LAUNCHER_TEST_ROOT") != "" {
		return syscall.Exec(args[0], args, []string{"PATH=/usr/sbin:/usr/bin"})
	}
	return dropAndExec(args)
}

// dropAndExec becomes uid 107 without any capability, also not for the threads' children.
func dropAndExec(args []string) error {
	const prSetNoNewPrivs, prCapBsetDrop = 38, 24
	for capability := uintptr(0); capability <= 40; capability++ {
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prCapBsetDrop, capability, 0)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(layout.UID); err != nil {
		return err
	}
	if err := syscall.Setuid(layout.UID); err != nil {
		return err
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0); e != 0 {
		return e
	}
	return syscall.Exec(args[0], args, []string{"PATH=/usr/sbin:/usr/bin"})
}

// pod is one launcher pod.
type pod struct {
	*wire.Client
	t              *testing.T
	dir            string
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{}
	code           int
}

type podOptions struct {
	// args are the launcher's; none is how pods run it.
	args []string
	// extra is a bind mount, host:pod.
	extra string
	// setup is a shell script that runs as root in the pod's network namespace before the launcher.
	setup string
	// volumes are files of the pod, by path below /run, made before the start.
	volumes map[string][]byte
	// privileged runs the program as root with all devices.
	privileged bool
}

// Everything a pod needs from the build.
func rootfs(t *testing.T) string { return artifact(t, "LAUNCHER_ROOTFS", "launcher-base/*/usr/..") }
func kernel(t *testing.T) string { return artifact(t, "LAUNCHER_KERNEL", "demo-base/*/boot/vmlinuz-*") }
func initrd(t *testing.T) string { return artifact(t, "LAUNCHER_INITRD", "demo/initrd.img") }

func artifact(t *testing.T, env, pattern string) string {
	t.Helper()
	if path := os.Getenv(env); path != "" {
		return path
	}
	found, err := filepath.Glob(filepath.Join("../../../out/cache", pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("nothing matches out/cache/%s; run `make images` or set %s", pattern, env)
	}
	path, err := filepath.Abs(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// program is the launcher, built once for all tests.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "launcher")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "virt-launcher")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "virtctl/cmd/virt-launcher")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// newPod starts a launcher and returns when its socket is there.
func newPod(t *testing.T, o podOptions) *pod {
	t.Helper()
	// Unix socket paths are short, test names are not.
	dir, err := os.MkdirTemp("", "pod")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	must(t, os.Chmod(dir, 0o755))
	for _, d := range []string{"root", "dev", "dev/shm", "dev/pts", "run", "run/kubevirt-private", "run/kubevirt/sockets", "run/boot", "tmp", "names/etc"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "names/etc/resolv.conf"), []byte("search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.255.255.53\noptions ndots:5\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "names/etc/hosts"), []byte("127.0.0.1 localhost\n"), 0o644))
	for name, content := range o.volumes {
		path := filepath.Join(dir, "run", name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, content, 0o644))
	}
	for name, from := range map[string]string{"virt-launcher": binary, "boot/vmlinuz": kernel(t), "boot/initrd": initrd(t)} {
		content, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "run", name), content, 0o755))
	}
	must(t, os.Chmod(filepath.Join(dir, "tmp"), 0o777))
	must(t, filepath.WalkDir(filepath.Join(dir, "run"), func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, layout.UID, layout.UID))
	}))
	p := &pod{t: t, dir: dir, stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	p.cmd = exec.Command("/proc/self/exe", append([]string{"/run/virt-launcher"}, o.args...)...)
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), podEnv + "=" + dir, "LAUNCHER_TEST_ROOTFS=" + rootfs(t), "LAUNCHER_TEST_EXTRA=" + o.extra, "LAUNCHER_TEST_SETUP=" + o.setup}
	if o.privileged {
		p.cmd.Env = append(p.cmd.Env, "LAUNCHER_TEST_ROOT=1")
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	must(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	t.Cleanup(p.remove)
	p.Client = wire.NewClient(func(ctx context.Context) (*net.UnixConn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", p.path(layout.LauncherSocket))
		if err != nil {
			return nil, err
		}
		return conn.(*net.UnixConn), nil
	})
	if len(o.args) == 0 {
		p.awaitSocket()
	}
	return p
}

// path is where a path below /var/run of the pod is for us.
func (p *pod) path(inPod string) string {
	return filepath.Join(p.dir, strings.TrimPrefix(inPod, "/var"))
}

func (p *pod) awaitSocket() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := process.WaitForPath(ctx, p.path(layout.LauncherSocket)); err != nil {
		p.t.Fatalf("%v\n%s", err, p.stderr.String())
	}
}

// remove ends the pod: PID 1's death ends everything in its namespace.
func (p *pod) remove() {
	_ = p.cmd.Process.Kill()
	<-p.exited
	if p.t.Failed() {
		p.t.Logf("messages:\n%s\nconsole:\n%s", p.stderr.String(), p.stdout.String())
	}
	_ = os.RemoveAll(p.dir)
}

// wait returns the exit code.
func (p *pod) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.code
	case <-time.After(patience):
		p.t.Fatal("the launcher does not end")
		return -1
	}
}

// exec runs the launcher's program in the pod, as kubelet does for an exec probe.
func (p *pod) exec(args ...string) (code int, out string) {
	p.t.Helper()
	nsenter := []string{"-t", strconv.Itoa(p.cmd.Process.Pid), "-m", "-p", "-n", "--root", "--wd=/", "-S", strconv.Itoa(layout.UID), "-G", strconv.Itoa(layout.UID), "/run/virt-launcher"}
	cmd := exec.Command("nsenter", append(nsenter, args...)...)
	raw, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(raw)
}

// pidOf finds a program in the pod by its name, as we see it.
func (p *pod) pidOf(name string) int {
	p.t.Helper()
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid_for_children", p.cmd.Process.Pid))
	must(p.t, err)
	entries, err := os.ReadDir("/proc")
	must(p.t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		other, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil || other != space {
			continue
		}
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if strings.HasPrefix(strings.TrimSpace(string(comm)), name) {
			return pid
		}
	}
	p.t.Fatalf("no %s runs in the pod", name)
	return 0
}

// pss is a process's share of memory in KiB.
func pss(t *testing.T, pid int) int {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	must(t, err)
	for line := range strings.SplitSeq(string(content), "\n") {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			must(t, err)
			return n
		}
	}
	t.Fatal("no Pss line")
	return 0
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
