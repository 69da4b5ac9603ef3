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

// Receiver accepts the streams of migrations to this node, of those that were announced with Expect.
type Receiver struct {
	// Address is where to listen; TLS must ask for client certificates.
	Address string
	TLS     *tls.Config
	Log     logr.Logger

	mu       sync.Mutex
	expected map[types.UID]expected
	streams  sync.WaitGroup
}

type expected struct {
	pod  types.NamespacedName
	open OpenFunc
}

// Expect lets the streams of a migration in.
func (r *Receiver) Expect(migration types.UID, pod types.NamespacedName, open OpenFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.expected == nil {
		r.expected = map[types.UID]expected{}
	}
	r.expected[migration] = expected{pod: pod, open: open}
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
		if e.pod == pod {
			delete(r.expected, uid)
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
	return r.Serve(ctx, listener)
}

// Serve accepts connections from listener until ctx ends, and then waits for those that are joined: a guest that is under way
// may arrive.
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
	conn := tls.Server(raw, r.TLS)
	defer conn.Close()
	buffered, inside, err := r.admit(ctx, conn)
	if err != nil {
		r.Log.Info("refused a migration's stream", "from", raw.RemoteAddr().String(), "reason", err.Error())
		return
	}
	join(conn, inside, buffered)
}

// admit checks who connects and for what, and opens the pod's end.
func (r *Receiver) admit(ctx context.Context, conn *tls.Conn) (*bufio.Reader, stream, error) {
	ctx, cancel := context.WithTimeout(ctx, greeting)
	defer cancel()
	if err := conn.SetDeadline(time.Now().Add(greeting)); err != nil {
		return nil, nil, err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("handshake: %w", err)
	}
	// The chain was verified by the handshake; which of the platform's roles it is counts too.
	chains := conn.ConnectionState().VerifiedChains
	if len(chains) == 0 || chains[0][0].Subject.CommonName != SourceCommonName {
		return nil, nil, errors.New("the client is not a migration's source")
	}
	buffered := bufio.NewReaderSize(conn, maxHello)
	h, err := readHello(buffered)
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	e, ok := r.expected[h.MigrationUID]
	r.mu.Unlock()
	if !ok {
		return nil, nil, fmt.Errorf("migration %.64q is not expected here", h.MigrationUID)
	}
	inside, err := open(ctx, e.open, h.Stream)
	if err != nil {
		return nil, nil, fmt.Errorf("stream %s of migration %s: %w", h.Stream, h.MigrationUID, err)
	}
	return buffered, inside, conn.SetDeadline(time.Time{})
}

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
