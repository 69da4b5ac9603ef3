package migration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/server/handler/beneath"
)

// names are the sockets in the source's pod.
func names() map[Stream]string {
	return map[Stream]string{
		Libvirt: path.Base(layout.MigrationLibvirtSocket), Memory: path.Base(layout.MigrationMemorySocket),
		NBD: path.Base(layout.MigrationNBDSocket),
	}
}

// Route leads to a migration's target.
type Route struct {
	Migration types.UID
	// Address is the target's virt-handler.
	Address string
	// TLS is nil where the cluster has switched encryption off for migrations.
	TLS *tls.Config
}

// Tunnel is the source's end: sockets in the pod, each connection to which is forwarded to the target.
type Tunnel struct {
	route     Route
	dir       *os.File
	listeners []*net.UnixListener
	ctx       context.Context
	cancel    context.CancelFunc
	work      sync.WaitGroup
	closing   sync.Once

	mu  sync.Mutex
	err error
}

// OpenTunnel makes the sockets in dir, the pod's directory for them, which the tunnel owns from now on. The pod's user can do
// there what it likes, so nothing but dir itself is trusted.
func OpenTunnel(ctx context.Context, dir *os.File, owner int, route Route) (*Tunnel, error) {
	t := &Tunnel{route: route, dir: dir}
	t.ctx, t.cancel = context.WithCancel(ctx)
	for stream, name := range names() {
		l, err := listen(dir, name, owner)
		if err != nil {
			_ = t.Close()
			return nil, err
		}
		t.listeners = append(t.listeners, l)
		t.work.Go(func() { t.accept(l, stream) })
	}
	return t, nil
}

func listen(dir *os.File, name string, owner int) (*net.UnixListener, error) {
	fd := int(dir.Fd())
	if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove an old socket %s: %w", name, err)
	}
	// The path through /proc/self/fd is short and cannot be redirected; bind follows no link in its last part.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", fd, name), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen in the pod: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := give(dir, name, owner); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// give makes the socket the pod user's.
func give(dir *os.File, name string, owner int) error {
	f, err := beneath.OpenSameMount(dir, name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer f.Close()
	kind, _, err := beneath.Type(f)
	if err != nil {
		return err
	}
	if kind != unix.S_IFSOCK {
		return fmt.Errorf("%s is not a socket", f.Name())
	}
	if err := unix.Fchownat(int(f.Fd()), "", owner, owner, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("give %s to the launcher: %w", f.Name(), err)
	}
	return nil
}

func (t *Tunnel) accept(l *net.UnixListener, stream Stream) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		t.work.Go(func() { t.forward(conn, stream) })
	}
}

func (t *Tunnel) forward(conn *net.UnixConn, stream Stream) {
	defer conn.Close()
	remote, err := t.dial(stream)
	if err != nil {
		t.failed(fmt.Errorf("connect to virt-handler at %s: %w", t.route.Address, err))
		return
	}
	defer context.AfterFunc(t.ctx, func() { _, _ = remote.cut(), conn.Close() })()
	join(conn, remote, conn)
}

func (t *Tunnel) dial(stream Stream) (*remote, error) {
	ctx, cancel := context.WithTimeout(t.ctx, greeting)
	defer cancel()
	conn, err := t.route.connect(ctx)
	if err != nil {
		return nil, err
	}
	line, err := hello{MigrationUID: t.route.Migration, Stream: stream}.line()
	if err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(greeting))
		_, err = conn.Write(line)
		_ = conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// connect connects to the target's virt-handler, encrypted unless the route says otherwise.
func (r Route) connect(ctx context.Context) (*remote, error) {
	raw, err := (&net.Dialer{KeepAlive: greeting}).DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return nil, err
	}
	if err := sendLittleAhead(raw); err != nil {
		_ = raw.Close()
		return nil, err
	}
	if r.TLS == nil {
		return &remote{Conn: raw, raw: raw}, nil
	}
	gathered := &gatheringConn{Conn: raw}
	encrypted := tls.Client(gathered, r.TLS)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return &remote{Conn: &gatheredTLS{Conn: encrypted, under: gathered}, raw: raw}, nil
}

// remote is a connection to the target.
type remote struct {
	net.Conn
	raw net.Conn
}

// CloseWrite ends what is sent; what is received goes on.
func (r *remote) CloseWrite() error { return closeWrite(r.Conn) }

// cut ends the connection at once, without waiting for a last word to be sent.
func (r *remote) cut() error { return r.raw.Close() }

func (t *Tunnel) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// Err is why the target could not be reached, nil if it could.
func (t *Tunnel) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Close ends the connections and removes the sockets. It may be called more than once.
func (t *Tunnel) Close() error {
	t.closing.Do(t.close)
	return nil
}

func (t *Tunnel) close() {
	t.cancel()
	for _, l := range t.listeners {
		_ = l.Close()
	}
	t.work.Wait()
	for _, name := range names() {
		_ = unix.Unlinkat(int(t.dir.Fd()), name, 0)
	}
	_ = t.dir.Close()
}
