package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/network"
	"virtctl/internal/server/handler/beneath"
)

// Peer is a connected launcher and its process.
type Peer struct {
	Client *wire.Client
	Info   wire.Info
	PID    int

	socket *os.File // O_PATH: the socket that was checked, whatever happens to its name
	proc   *os.File // /proc/<pid> of that process; useless once it has ended, never another process
	home   *os.File // O_PATH: the directory that the socket is in
}

// maxProc bounds what is read of a file in /proc.
const maxProc = 64 << 10

// Connector connects to the launchers of one kubelet's pods.
type Connector struct {
	KubeletDir string
	// Member decides whether a process (its directory in /proc) belongs to a pod; InPodCgroup if nil.
	Member func(proc *os.File, pod types.UID) error
}

// Connect opens the pod's launcher. Nothing in the pod's directory is trusted: the socket is opened beneath it, must be a
// socket, and must be listened to by a process with the launcher's uid that belongs to the pod.
func (c Connector) Connect(ctx context.Context, pod types.UID) (*Peer, error) {
	if !validUID(pod) {
		return nil, fmt.Errorf("%q is not a pod's UID", pod)
	}
	p := &Peer{}
	if err := c.open(ctx, p, pod); err != nil {
		p.Close()
		return nil, fmt.Errorf("connect to the launcher of pod %s: %w", pod, err)
	}
	return p, nil
}

func (c Connector) open(ctx context.Context, p *Peer, pod types.UID) error {
	pods, err := beneath.OpenDir(filepath.Join(c.KubeletDir, "pods"))
	if err != nil {
		return err
	}
	defer pods.Close()
	name := filepath.Join(socketPath(pod)...)
	if p.home, err = beneath.Open(pods, filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return err
	}
	if p.socket, err = beneath.Open(p.home, filepath.Base(name), unix.O_PATH); err != nil {
		return err
	}
	kind, _, err := beneath.Type(p.socket)
	if err != nil {
		return err
	}
	if kind != unix.S_IFSOCK {
		return fmt.Errorf("%s is not a socket", p.socket.Name())
	}
	if p.PID, err = p.peerPID(ctx); err != nil {
		return err
	}
	if p.proc, err = beneath.OpenDir("/proc/" + strconv.Itoa(p.PID)); err != nil {
		return err
	}
	p.Client = wire.NewClient(p.dial)
	// Whoever answers now holds the socket still; so p.proc, opened before, is that process and not a later one with its id.
	if p.Info, err = p.Client.Info(ctx); err != nil {
		return err
	}
	if c.Member != nil {
		return c.Member(p.proc, pod)
	}
	return InPodCgroup(p.proc, pod)
}

// dial connects to the socket that was checked. The path through /proc/self/fd is short (108 characters are the limit, kubelet's
// paths are longer) and cannot be redirected.
func (p *Peer) dial(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", p.socket.Fd()))
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, errors.New("dial: not a unix connection")
	}
	cred, err := peerCred(unixConn)
	if err == nil && (cred.Uid != layout.UID || p.PID != 0 && int(cred.Pid) != p.PID) {
		err = fmt.Errorf("process %d of user %d listens there, not the launcher (user %d)", cred.Pid, cred.Uid, layout.UID)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return unixConn, nil
}

func (p *Peer) peerPID(ctx context.Context) (int, error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	cred, err := peerCred(conn)
	if err != nil {
		return 0, err
	}
	if cred.Pid <= 0 {
		return 0, errors.New("the launcher's process is not visible from here; run virt-handler with hostPID")
	}
	return int(cred.Pid), nil
}

func peerCred(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	return cred, nil
}

// InPodCgroup makes sure that the process is one of the pod's: its network is the one that gets changed.
func InPodCgroup(proc *os.File, pod types.UID) error {
	cgroups, err := beneath.ReadFile(proc, "cgroup", maxProc)
	if err != nil {
		return err
	}
	uid := string(pod)
	if s := string(cgroups); !strings.Contains(s, uid) && !strings.Contains(s, strings.ReplaceAll(uid, "-", "_")) {
		return fmt.Errorf("%s does not belong to pod %s", proc.Name(), pod)
	}
	return nil
}

// Namespace opens the pod's network namespace. It refuses the node's own.
func (p *Peer) Namespace() (*network.Namespace, error) {
	// The entry is a magic link, which beneath.Open rightly refuses; the directory is known to be the launcher's.
	fd, err := unix.Openat(int(p.proc.Fd()), "ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the pod's network namespace: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netns")
	if err := refuseNodes(fd); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open the pod's network namespace: %w", err)
	}
	return network.NewNamespace(file), nil
}

// refuseNodes makes sure that the namespace is neither the node's nor our own. Where the node's first process hides its
// namespace from us, what the pod's spec says about hostNetwork has to do.
func refuseNodes(fd int) error {
	var pods, st unix.Stat_t
	if err := unix.Fstat(fd, &pods); err != nil {
		return err
	}
	for _, path := range []string{"/proc/1/ns/net", "/proc/thread-self/ns/net"} {
		switch err := unix.Stat(path, &st); {
		case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
			continue
		case err != nil:
			return fmt.Errorf("stat %s: %w", path, err)
		case st.Ino == pods.Ino && st.Dev == pods.Dev:
			return errors.New("the pod shares the node's network; a virtual machine needs a pod network of its own (no hostNetwork)")
		}
	}
	return nil
}

// Root opens the pod's root directory as the launcher sees it, as a starting point for package beneath.
func (p *Peer) Root() (*os.File, error) {
	fd, err := unix.Openat(int(p.proc.Fd()), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the launcher's root directory: %w", err)
	}
	return os.NewFile(uintptr(fd), "launcher"), nil
}

// MigrationDir opens the pod's directory for the sockets of a migration. What is in it is the pod's user's to decide.
func (p *Peer) MigrationDir() (*os.File, error) {
	dir, err := beneath.OpenSameMount(p.home, filepath.Base(layout.MigrationDir), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open the pod's directory for migrations: %w", err)
	}
	return dir, nil
}

// Close forgets the launcher. Calls under way go on.
func (p *Peer) Close() {
	for _, f := range []*os.File{p.socket, p.proc, p.home} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// Mounts opens the pod's mount namespace as the process sees it.
func (p *Peer) Mounts() (*os.File, error) {
	fd, err := unix.Openat(int(p.proc.Fd()), "ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the pod's mount namespace: %w", err)
	}
	return os.NewFile(uintptr(fd), "mounts"), nil
}

// Status is what the kernel says about the process in one of its files in /proc.
func (p *Peer) Status(name string) ([]byte, error) { return beneath.ReadFile(p.proc, name, maxProc) }
