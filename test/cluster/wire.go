package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// Wire stands between a client and the API server, counts what the client sends and can be cut.
type Wire struct {
	// Server is its address, for --server.
	Server string
	// Reached is closed when the client has sent the number of bytes that was asked for.
	Reached chan struct{}
	Sent    atomic.Int64

	listener net.Listener
	api      string
	at       int64
	once     sync.Once

	mu   sync.Mutex
	open map[net.Conn]bool
}

// Wire opens a way to the API server.
func (c *Cluster) Wire(ctx context.Context, at int64) (*Wire, error) {
	r := c.Command(ctx, "", "kubectl", "config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
	api, err := url.Parse(strings.TrimSpace(r.Stdout))
	if err != nil || r.Code != 0 {
		return nil, fmt.Errorf("find the API server: %w%s", err, r.Stderr)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Wire{
		Server: "https://" + listener.Addr().String(), Reached: make(chan struct{}),
		listener: listener, api: api.Host, at: at, open: map[net.Conn]bool{},
	}
	go w.serve()
	return w, nil
}

func (w *Wire) serve() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		go w.carry(client)
	}
}

func (w *Wire) carry(client net.Conn) {
	server, err := net.Dial("tcp", w.api)
	if err != nil {
		_ = client.Close()
		return
	}
	w.mu.Lock()
	w.open[client], w.open[server] = true, true
	w.mu.Unlock()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_, _ = io.Copy(server, io.TeeReader(client, w))
	_ = server.Close()
}

// Write counts.
func (w *Wire) Write(p []byte) (int, error) {
	if w.Sent.Add(int64(len(p))) >= w.at {
		w.once.Do(func() { close(w.Reached) })
	}
	return len(p), nil
}

// Cut ends every connection there is.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.open {
		_ = conn.Close()
		delete(w.open, conn)
	}
}

// Close ends everything.
func (w *Wire) Close() {
	_ = w.listener.Close()
	w.Cut()
}
