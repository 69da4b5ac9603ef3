// Package subresource serves what virt-api asks of the node a virtual machine runs on: consoles, pausing, the guest agent.
package subresource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/launchers"
	"virtctl/internal/server/serving"
)

// apiClient is the common name of the certificate that virt-api calls with.
const apiClient = "kubevirt.io:system:client:virt-handler"

const (
	prefix = "/v1/namespaces/{namespace}/virtualmachineinstances/{name}/"
	// headerTimeout bounds how long a caller may take to ask.
	headerTimeout = 10 * time.Second
	// callTimeout bounds a call that answers at once; agentTimeout one that asks the guest.
	callTimeout  = 30 * time.Second
	agentTimeout = 20 * time.Second
	// drainTimeout is how long calls under way get when the server stops.
	drainTimeout = 5 * time.Second
	maxBody      = 64 << 10
)

// Server answers virt-api.
type Server struct {
	Address   string
	TLS       *tls.Config
	Launchers *launchers.Set
	// Patience is how long a launcher may take to be found by a server that has just started.
	Patience time.Duration
	// Sessions counts the streams that are open; its Stop hands them over to the next server.
	Sessions *serving.Tracker
	// Listening is called when callers can connect.
	Listening func()
	Log       logr.Logger

	sessions sessions
}

// route is one path below a virtual machine instance.
type route struct {
	method, path string
	// client is the common name of who may call it.
	client string
	serve  func(s *Server, w http.ResponseWriter, r *http.Request, vm target) error
}

// target is the running virtual machine that a call is about.
type target struct {
	name   types.NamespacedName
	client *wire.Client
}

func routes() []route {
	return []route{
		{http.MethodGet, "console", apiClient, (*Server).console},
		{http.MethodGet, "vnc", apiClient, (*Server).vnc},
		{http.MethodGet, "vnc/screenshot", apiClient, (*Server).screenshot},
		{http.MethodGet, "usbredir", apiClient, (*Server).usbRedir},
		{http.MethodPut, "pause", apiClient, (*Server).pause},
		{http.MethodPut, "unpause", apiClient, (*Server).unpause},
		{http.MethodPut, "reset", apiClient, (*Server).reset},
		{http.MethodPut, "softreboot", apiClient, (*Server).softReboot},
		{http.MethodPut, "freeze", apiClient, (*Server).freeze},
		{http.MethodPut, "unfreeze", apiClient, (*Server).unfreeze},
		{http.MethodGet, "guestosinfo", apiClient, (*Server).guestOSInfo},
		{http.MethodGet, "userlist", apiClient, (*Server).userList},
		{http.MethodGet, "filesystemlist", apiClient, (*Server).filesystemList},
	}
}

// Handler answers requests that carry a verified client certificate.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes() {
		mux.HandleFunc(r.method+" "+prefix+r.path, func(w http.ResponseWriter, req *http.Request) {
			if err := s.call(r, w, req); err != nil {
				writeError(w, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		writeError(w, &statusError{http.StatusNotFound, fmt.Sprintf("virt-handler has no %s %s", req.Method, req.URL.Path)})
	})
	return mux
}

func (s *Server) call(r route, w http.ResponseWriter, req *http.Request) error {
	if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return &statusError{http.StatusUnauthorized, "a client certificate is required"}
	}
	if cn := req.TLS.PeerCertificates[0].Subject.CommonName; cn != r.client {
		return &statusError{http.StatusForbidden, fmt.Sprintf("%s may not call %s", cn, r.path)}
	}
	name := types.NamespacedName{Namespace: req.PathValue("namespace"), Name: req.PathValue("name")}
	// virt-api has reason to ask here: if the machine is not known, then because this server has only just begun to look.
	ctx, cancel := context.WithTimeout(req.Context(), s.Patience)
	defer cancel()
	l, ok := s.Launchers.Await(ctx, name)
	if !ok {
		return &statusError{http.StatusNotFound, fmt.Sprintf("%s does not run on this node", name)}
	}
	view := l.View()
	if view.Peer == nil {
		return &statusError{http.StatusServiceUnavailable, fmt.Sprintf("the launcher of %s does not answer; try again", name)}
	}
	return r.serve(s, w, req, target{name: name, client: view.Peer.Client})
}

// Start serves until ctx ends. It belongs to every replica of a manager.
func (s *Server) Start(ctx context.Context) error {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.Address)
	if err != nil {
		return fmt.Errorf("serve virt-api: %w", err)
	}
	s.Listening()
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, BaseContext: func(net.Listener) context.Context { return ctx }}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			_ = server.Close()
		}
		// Nobody is let in any more, so none of them comes back here.
		cancel()
		s.Sessions.Drain(drain)
	})
	err = server.Serve(tls.NewListener(listener, s.TLS))
	if stop() {
		return fmt.Errorf("serve virt-api: %w", err)
	}
	<-stopped
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
