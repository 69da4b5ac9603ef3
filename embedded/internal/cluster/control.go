package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/supervise"
)

// Status is what a running server says of itself.
type Status struct {
	Options    options.Options    `json:"options"`
	Kubeconfig string             `json:"kubeconfig"`
	Pid        int                `json:"pid"`
	Ready      bool               `json:"ready"`
	Units      []supervise.Status `json:"units"`
	Nodes      []supervise.Status `json:"nodes"`
}

// listen serves commands on the control socket, which only root can reach.
func (s *Server) listen() (net.Listener, error) {
	path := s.options.ControlSocket()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // we hold the lock: it is a dead one
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	go func() {
		if err := http.Serve(l, s.routes()); err != nil && !errors.Is(err, net.ErrClosed) {
			slog.Error("control socket", "err", err)
		}
	}()
	return l, nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.status()); err != nil {
			slog.Debug("status", "err", err)
		}
	})
	mux.HandleFunc("GET /progress", func(w http.ResponseWriter, r *http.Request) {
		flush := func() { _ = http.NewResponseController(w).Flush() } // a client that went away is met at the next write
		if err := s.progress.Stream(w, flush, r.Context().Done()); err != nil {
			slog.Debug("progress", "err", err)
		}
	})
	mux.HandleFunc("POST /stop", func(http.ResponseWriter, *http.Request) { s.stop() })
	mux.HandleFunc("POST /units/{name}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		respond(w, s.unitVerb(r.PathValue("name"), r.PathValue("verb")))
	})
	mux.HandleFunc("POST /nodes/{name}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		respond(w, s.nodeVerb(r.Context(), r.PathValue("name"), r.PathValue("verb")))
	})
	return mux
}

func respond(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (s *Server) status() Status {
	st := Status{Options: s.options, Kubeconfig: s.options.Kubeconfig(), Pid: os.Getpid(), Ready: s.progress.isReady()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.units {
		st.Units = append(st.Units, u.Status())
	}
	for _, n := range s.nodes {
		st.Nodes = append(st.Nodes, n.unit.Status())
	}
	byName := func(a, b supervise.Status) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(st.Units, byName)
	slices.SortFunc(st.Nodes, byName)
	return st
}

func (s *Server) unitVerb(name, verb string) error {
	s.mu.Lock()
	u, ok := s.units[name]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("no component %q: see 'virt-kube status'", name)
	}
	return applyVerb(u, verb)
}

func (s *Server) nodeVerb(ctx context.Context, name, verb string) error {
	s.mu.Lock()
	n, ok := s.nodes[name]
	s.mu.Unlock()
	if !ok {
		_, err := s.plan.Node(name)
		return err
	}
	switch verb {
	case "cut":
		return s.network.Cut(name)
	case "heal":
		return s.network.Heal(name)
	case "start":
		n.unit.Start()
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		return s.waitReady(ctx, []string{name})
	}
	return applyVerb(n.unit, verb)
}

func applyVerb(u *supervise.Unit, verb string) error {
	switch verb {
	case "start":
		u.Start()
	case "stop":
		u.Stop()
	case "kill":
		u.Kill()
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
	return nil
}
