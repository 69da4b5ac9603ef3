package migration

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// SourceCommonName is who may send guests to this node.
	SourceCommonName = "kubevirt.io:system:client:migration"
	// TargetCommonName is who may be sent guests.
	TargetCommonName = "kubevirt.io:system:node:virt-handler"
	// greeting is how long the handshake, the first line and the connection into the pod may take.
	greeting = 15 * time.Second
)

// OpenFunc connects to a stream's socket in the target's launcher pod.
type OpenFunc func(ctx context.Context, stream Stream) (*os.File, error)

// Guest is one that comes here.
type Guest struct {
	Pod  types.NamespacedName
	Open OpenFunc
	// Plain says that the cluster has switched encryption off for migrations (disableTLS): whoever knows the migration is let in.
	Plain bool
	// Done is called when the guest is not expected any more.
	Done func()
}

// Receiver accepts the streams of migrations to this node, of those that were announced with Expect.
type Receiver struct {
	// Address is where to listen; TLS must ask for client certificates.
	Address string
	TLS     *tls.Config
	// Listening is called when other nodes can connect.
	Listening func()
	Log       logr.Logger

	mu       sync.Mutex
	expected map[types.UID]Guest
	streams  sync.WaitGroup
}

// Expect lets the streams of a migration in.
func (r *Receiver) Expect(migration types.UID, guest Guest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.expected == nil {
		r.expected = map[types.UID]Guest{}
	}
	if before, ok := r.expected[migration]; ok {
		before.Done()
	}
	r.expected[migration] = guest
}

// Expects tells whether a migration has been announced.
func (r *Receiver) Expects(migration types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.expected[migration]
	return ok
}

// Forget lets no more streams into a pod. Those that are joined stay.
func (r *Receiver) Forget(pod types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, e := range r.expected {
		if e.Pod == pod {
			delete(r.expected, uid)
			e.Done()
		}
	}
}

// Start serves until ctx ends.
func (r *Receiver) Start(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", r.Address)
	if err != nil {
		return fmt.Errorf("listen for migrations: %w; choose another port with --migration-port", err)
	}
	r.Listening()
	return r.Serve(ctx, listener)
}

// Serve accepts connections from listener until ctx ends, and then waits for those that are joined: the last words of a migration
// may be under way.
func (r *Receiver) Serve(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			r.streams.Wait()
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept migrations: %w", err)
		}
		r.streams.Go(func() { r.serve(ctx, conn) })
	}
}

func (r *Receiver) serve(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	s, err := r.admit(ctx, raw)
	if err != nil {
		r.Log.Info("refused a migration's stream", "from", raw.RemoteAddr().String(), "reason", err.Error())
		return
	}
	join(s.outside, s.inside, s.buffered)
}

// admitted is a stream whose both ends may be joined.
type admitted struct {
	outside, inside stream
	// buffered has what was read of outside beyond the first line.
	buffered *bufio.Reader
}

// admit checks who connects and for what, and opens the pod's end.
func (r *Receiver) admit(ctx context.Context, raw net.Conn) (admitted, error) {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	if err := raw.SetDeadline(time.Now().Add(greeting)); err != nil {
		return admitted{}, err
	}
	peeked := &peekedConn{Conn: raw, from: bufio.NewReaderSize(raw, maxHello)}
	first, err := peeked.from.Peek(1)
	if err != nil {
		return admitted{}, fmt.Errorf("read the first byte: %w", err)
	}
	plain := first[0] == plainHello
	s := admitted{outside: peeked, buffered: peeked.from}
	if !plain {
		if s.outside, err = r.secure(ctx, peeked); err != nil {
			return admitted{}, err
		}
		s.buffered = bufio.NewReaderSize(s.outside, maxHello)
	}
	h, err := readHello(s.buffered)
	if err != nil {
		return admitted{}, err
	}
	r.mu.Lock()
	guest, ok := r.expected[h.MigrationUID]
	r.mu.Unlock()
	if !ok {
		return admitted{}, fmt.Errorf("migration %.64q is not expected here", h.MigrationUID)
	}
	if plain && !guest.Plain {
		return admitted{}, errors.New("the connection is not encrypted")
	}
	if s.inside, err = open(ctx, guest.Open, h.Stream); err != nil {
		return admitted{}, fmt.Errorf("stream %s of migration %s: %w", h.Stream, h.MigrationUID, err)
	}
	if err := errors.Join(raw.SetDeadline(time.Time{}), takeLittleAhead(raw)); err != nil {
		_ = s.inside.Close()
		return admitted{}, err
	}
	// Only who is let in is worth this much memory: a record of TLS takes two reads of the network without it.
	peeked.from = bufio.NewReaderSize(peeked.from, chunk)
	return s, nil
}

// secure ends the handshake and checks that the client is a migration's source.
func (r *Receiver) secure(ctx context.Context, raw net.Conn) (*tls.Conn, error) {
	conn := tls.Server(raw, r.TLS)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	// The chain was verified by the handshake; which of the platform's roles it is counts too.
	chains := conn.ConnectionState().VerifiedChains
	if len(chains) == 0 || chains[0][0].Subject.CommonName != SourceCommonName {
		return nil, errors.New("the client is not a migration's source")
	}
	return conn, nil
}

// peekedConn is a connection of which the beginning may have been read ahead.
type peekedConn struct {
	net.Conn
	from *bufio.Reader
}

func (c *peekedConn) Read(b []byte) (int, error) { return c.from.Read(b) }

// CloseWrite ends what is sent; what is received goes on.
func (c *peekedConn) CloseWrite() error { return closeWrite(c.Conn) }

func open(ctx context.Context, fn OpenFunc, name Stream) (stream, error) {
	file, err := fn(ctx, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("use the launcher's socket: %w", err)
	}
	s, ok := conn.(stream)
	if !ok {
		_ = conn.Close()
		return nil, errors.New("the launcher's socket is not a stream")
	}
	return s, nil
}
