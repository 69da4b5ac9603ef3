// Package upload is the upload server: it takes one disk image over HTTPS into the claim of its pod, and then ends. An upload that was
// cut off goes on where it stopped, in this pod or in another one.
//
// Paths and answers are CDI's. Ours on top: HEAD tells Upload-Offset, Upload-Length and Upload-Identity of what arrived so far; a POST with that
// Upload-Identity and Upload-Offset continues; the answer to a complete one has Repr-Digest (RFC 9530). A POST to upload-direct lets a client
// in that is no proxy (package direct). A GET of upload-result is answered when the upload is complete.
package upload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"virtctl/internal/cdi/direct"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/stream"
	"virtctl/internal/cdi/worker/metrics"
	"virtctl/internal/cdi/worker/volume"
)

// Config is one upload server.
type Config struct {
	Volume volume.Volume
	// Options are the sizes of the disk. Measure gives them as they are now, for a claim may get room while its server waits; nil is that they
	// stay.
	Options stream.Options
	Measure func() (stream.Options, error)
	// ClientName is the common name that a client's certificate must have.
	ClientName string
	TLS        TLS
	// Deadline is when the server's certificate ends, and the server with it; zero is never.
	Deadline time.Time
	// Idle is how long an upload may send nothing.
	Idle     time.Duration
	Progress *metrics.Progress
	Logf     func(string, ...any)
}

// Result is what arrived.
type Result struct {
	stream.Result
	// Clone says that the content came from another claim.
	Clone bool
	// DeadlinePassed says that nothing arrived in time.
	DeadlinePassed bool
}

// ScratchError asks for a scratch claim: the image cannot be written as it arrives, and there is no room beside the disk.
type ScratchError struct{ Bytes int64 }

func (e *ScratchError) Error() string { return names.MessageScratch }

// Server takes uploads until one is complete.
type Server struct {
	config Config
	ended  chan struct{} // closed when there is a result or a failure
	once   sync.Once
	// guests are the clients that come directly.
	guests direct.Guests

	mu      sync.Mutex
	current *transfer // the upload at work
	result  *Result
	failure error
	spool   bool // the image turned out, late, to be one that must be stored first
}

// New makes a server.
func New(config Config) *Server {
	if config.Idle == 0 {
		config.Idle = 10 * time.Minute
	}
	return &Server{config: config, ended: make(chan struct{})}
}

// Handler is the server's paths.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(names.PathHealth, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	mux.Handle("GET "+names.PathMetrics, s.config.Progress)
	mux.HandleFunc("POST "+names.PathUploadDirect, s.invite)
	mux.HandleFunc("GET "+names.PathUploadResult, s.tell)
	for _, version := range []string{"/v1beta1", "/v1alpha1"} {
		for _, path := range []string{"/upload", "/upload-async"} {
			mux.Handle(version+path, s.handler(plainBody, false))
		}
		for _, path := range []string{"/upload-form", "/upload-form-async"} {
			mux.Handle(version+path, s.handler(formBody, false))
		}
		mux.Handle(version+"/upload-archive", s.handler(plainBody, true))
	}
	return mux
}

// Run serves until an upload is complete, the deadline passes, or ctx ends: then an upload at work leaves its progress for another pod.
func (s *Server) Run(ctx context.Context, l net.Listener) (Result, error) {
	config, err := s.config.TLS.config(&s.guests)
	if err != nil {
		return Result{}, err
	}
	server := &http.Server{Handler: s.Handler(), TLSConfig: config, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	var deadline <-chan time.Time
	if !s.config.Deadline.IsZero() {
		timer := time.NewTimer(time.Until(s.config.Deadline))
		defer timer.Stop()
		deadline = timer.C
	}
	select {
	case err := <-served:
		return Result{}, fmt.Errorf("serve uploads: %w", err)
	case <-s.ended:
	case <-deadline:
		s.settle(context.Background())
		s.finish(nil, nil)
	case <-ctx.Done():
		s.interrupt()
		s.settle(context.Background())
		s.finish(nil, context.Cause(ctx))
	}
	// The answer goes out before the program ends.
	stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		server.Close()
	}
	return s.outcome()
}

func (s *Server) outcome() (Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.result != nil:
		return *s.result, nil
	case s.failure != nil:
		return Result{}, s.failure
	}
	return Result{DeadlinePassed: true}, nil
}

// finish ends the server; the first result counts.
func (s *Server) finish(result *Result, err error) {
	s.once.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.result, s.failure = result, err
		close(s.ended)
	})
}

// interrupt has the upload at work stop.
func (s *Server) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.current.interrupt()
	}
}

// settle waits until no upload is at work.
func (s *Server) settle(ctx context.Context) {
	s.mu.Lock()
	t := s.current
	s.mu.Unlock()
	if t == nil {
		return
	}
	select {
	case <-t.done:
	case <-ctx.Done():
	}
}

var (
	errBusy = errors.New("another upload into this claim is at work: wait until it ends")
	errDone = errors.New("the upload into this claim is complete already")
)

// begin makes t the upload at work. An upload of the same content takes over from one whose client is gone without the server knowing.
func (s *Server) begin(ctx context.Context, t *transfer) error {
	for {
		s.mu.Lock()
		current := s.current
		switch {
		case s.result != nil:
			s.mu.Unlock()
			return errDone
		case current == nil:
			s.current = t
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		if t.identity == "" || t.identity != current.identity {
			return errBusy
		}
		s.config.Logf("the same content comes over another connection: the earlier one is given up")
		current.interrupt()
		select {
		case <-current.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Server) end(t *transfer) {
	s.mu.Lock()
	s.current = nil
	s.mu.Unlock()
	close(t.done)
}
