package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	// idleTimeout is longer than that of the API server's connections, so that it is the one who closes them.
	idleTimeout = 3 * time.Minute
	// finishTimeout is how long requests that are no sessions may take to finish at shutdown.
	finishTimeout = 15 * time.Second
	maxHeader     = 64 << 10
)

// run serves until ctx ends, and then until the last session has ended or may no longer last.
func (a *app) run(ctx context.Context) error {
	// What the server stands on outlives ctx: it is needed until the last session has ended.
	ground, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	failure := make(chan error, 2)
	background.Go(func() {
		if err := a.cache.Start(ground); err != nil {
			failure <- fmt.Errorf("follow the cluster's objects: %w", err)
		}
	})
	background.Go(func() { a.aggregator.Run(ground) })
	background.Go(func() {
		if a.cache.WaitForCacheSync(ground) {
			a.health.synced.Store(true)
		}
	})

	listener, err := a.listen(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: a.handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		// Websockets need HTTP/1.1, and the public contract has HTTP/2 off.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	background.Go(func() {
		if err := server.Serve(tls.NewListener(listener, a.tlsConfig())); !errors.Is(err, http.ErrServerClosed) {
			failure <- fmt.Errorf("serve: %w", err)
		}
	})
	a.log.Info("serving", "address", listener.Addr().String())
	select {
	case err := <-failure:
		_ = server.Close()
		return err
	case <-ctx.Done():
	}
	return a.shutdown(server)
}

// listenOn opens the server's port.
func listenOn(port int) func(context.Context) (net.Listener, error) {
	return func(ctx context.Context) (net.Listener, error) {
		l, err := (&net.ListenConfig{KeepAlive: 15 * time.Second}).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return nil, fmt.Errorf("listen: %w; choose another port with --port", err)
		}
		return l, nil
	}
}

// shutdown lets consoles drain: first nobody new is sent here, then nobody new is let in, then those inside may finish.
func (a *app) shutdown(server *http.Server) error {
	a.health.draining.Store(true)
	a.log.Info("shutting down", "lameDuck", a.options.LameDuck, "drain", a.options.Drain)
	lame := time.NewTimer(a.options.LameDuck)
	defer lame.Stop()
	<-lame.C
	finish, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		_ = server.Close()
	}
	drain, cancelDrain := context.WithTimeout(context.Background(), a.options.Drain)
	defer cancelDrain()
	if left := a.streams.Drain(drain); left > 0 {
		a.log.Warn("sessions had to be ended", "count", left)
	}
	return nil
}

// health is what probes are told.
type health struct {
	synced, draining atomic.Bool
	checks           []func() error
}

func (h *health) ready() error {
	switch {
	case h.draining.Load():
		return errors.New("shutting down")
	case !h.synced.Load():
		return errors.New("waiting for the KubeVirt object and the node agents; check the ServiceAccount's permissions and the CRD kubevirts.kubevirt.io")
	}
	for _, check := range h.checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
