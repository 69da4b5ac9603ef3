// Package serving runs CDI's HTTPS servers: certificates and TLS settings are those of the moment, uploads may end before the
// server does, and probes are told the truth.
package serving

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"virtctl/internal/cdi/tlsprofile"
	"virtctl/internal/tlsfile"
)

const (
	headerTimeout = 10 * time.Second
	// idleTimeout is longer than that of the API server's connections, so that it is the one who closes them.
	idleTimeout = 3 * time.Minute
	maxHeader   = 64 << 10
	// window is how much of an upload over HTTP/2 may be on its way: the default would slow it down.
	window = 4 << 20
)

// Server is an HTTPS server. All fields but Background are required.
type Server struct {
	Name    string
	Port    int
	Handler http.Handler
	// Certificate is what it shows, Profile the TLS settings of the moment.
	Certificate *tlsfile.KeyPair
	Profile     func() tlsprofile.Profile
	// ClientAuth says whether certificates are asked for.
	ClientAuth tls.ClientAuthType
	// LameDuck is how long it goes on answering after it said that it is not ready, Drain how long uploads may last after that.
	LameDuck, Drain time.Duration
	// Checks say why it is not ready.
	Checks []func() error
	// Background is what the server stands on: it runs until the last upload has ended.
	Background []func(context.Context) error
	Log        *slog.Logger
	// Listen opens the port; tests choose their own.
	Listen func(context.Context) (net.Listener, error)

	draining atomic.Bool
}

// Ready tells why the server is not ready.
func (s *Server) Ready() error {
	if s.draining.Load() {
		return errors.New("shutting down")
	}
	if _, err := s.Certificate.Get(); err != nil {
		return err
	}
	for _, check := range s.Checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// Run serves until ctx ends, and then until the last upload has ended or may no longer last.
func (s *Server) Run(ctx context.Context) error {
	ground, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failure := make(chan error, len(s.Background)+1)
	for _, run := range s.Background {
		go func() {
			if err := run(ground); err != nil && ground.Err() == nil {
				failure <- err
			}
		}()
	}
	listen := s.Listen
	if listen == nil {
		listen = s.open
	}
	listener, err := listen(ctx)
	if err != nil {
		return err
	}
	server := s.server()
	go func() {
		if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			failure <- fmt.Errorf("serve: %w", err)
		}
	}()
	s.Log.Info("serving", "address", listener.Addr().String())
	select {
	case err := <-failure:
		_ = server.Close()
		return err
	case <-ctx.Done():
	}
	return s.shutdown(server)
}

func (s *Server) open(ctx context.Context) (net.Listener, error) {
	l, err := (&net.ListenConfig{KeepAlive: 15 * time.Second}).Listen(ctx, "tcp", ":"+strconv.Itoa(s.Port))
	if err != nil {
		return nil, fmt.Errorf("listen: %w; choose another port with --port", err)
	}
	return l, nil
}

func (s *Server) server() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("OK"))
	})
	mux.Handle("GET /metrics", s.metrics())
	mux.Handle("/", s.Handler)
	return &http.Server{
		Handler: mux, TLSConfig: s.tlsConfig(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		HTTP2:    &http.HTTP2Config{MaxReceiveBufferPerConnection: window, MaxReceiveBufferPerStream: window, MaxReadFrameSize: 256 << 10},
	}
}

func (s *Server) tlsConfig() *tls.Config {
	protocols := []string{"h2", "http/1.1"}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols, GetCertificate: s.Certificate.Server,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: protocols, GetCertificate: s.Certificate.Server, ClientAuth: s.ClientAuth,
			}
			s.Profile().Restrict(c)
			return c, nil
		},
	}
}

// shutdown lets uploads drain: first nobody new is sent here, then nobody new is let in, then those inside may finish.
func (s *Server) shutdown(server *http.Server) error {
	s.draining.Store(true)
	s.Log.Info("shutting down", "lameDuck", s.LameDuck, "drain", s.Drain)
	lame := time.NewTimer(s.LameDuck)
	defer lame.Stop()
	<-lame.C
	drain, cancel := context.WithTimeout(context.Background(), s.Drain)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		s.Log.Warn("uploads had to be cut off; they can go on where they stopped")
		_ = server.Close()
	}
	return nil
}
