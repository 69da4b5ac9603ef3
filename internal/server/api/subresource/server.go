// Package subresource answers the requests of the routes in package routes.
package subresource

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/gorilla/websocket"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/reply"
	"virtctl/internal/server/api/expand"
	"virtctl/internal/server/api/routes"
	"virtctl/internal/server/serving"
)

// Node calls the node agents.
type Node interface {
	Put(ctx context.Context, vmi *v1.VirtualMachineInstance, verb string, body []byte) error
	Get(ctx context.Context, vmi *v1.VirtualMachineInstance, verb string) (*http.Response, error)
	Dial(ctx context.Context, vmi *v1.VirtualMachineInstance, verb string, query url.Values) (*websocket.Conn, error)
	// Resume goes on with a stream that a node agent which has ended has left to its successor.
	Resume(ctx context.Context, vmi *v1.VirtualMachineInstance, verb, key string) (*websocket.Conn, error)
}

// Server has what the handlers need. All fields are required.
type Server struct {
	// Client reads from and writes to the Kubernetes API server directly: decisions are made on the present state.
	Client client.Client
	// KubeVirts reads KubeVirt objects; a cache will do.
	KubeVirts client.Reader
	Config    *clusterconfig.Source
	Node      Node
	Expander  expand.Expander
	Streams   *serving.Tracker
	Sessions  Sessions
	// Healthy tells whether the Kubernetes API server answers, and its version.
	Healthy func(ctx context.Context) (version string, err error)
	Log     *slog.Logger
}

// Sessions is told about users' sessions with guests.
type Sessions interface {
	// Open is called with console, vnc or portforward and the VMI's key; what it gives is called at the session's end.
	Open(kind, namespace, name string) (done func())
}

// request is one request of a route.
type request struct {
	http.ResponseWriter
	*http.Request
	namespace, name string
}

func (r *request) key() client.ObjectKey {
	return client.ObjectKey{Namespace: r.namespace, Name: r.name}
}

// Handlers gives the handler of every route.
func (s *Server) Handlers() map[routes.Handler]http.Handler {
	handlers := map[routes.Handler]func(*request) error{
		routes.Start:          s.start,
		routes.Stop:           s.stop,
		routes.Restart:        s.restart,
		routes.MigrateVM:      s.migrate,
		routes.ExpandSpec:     s.expandSpec,
		routes.ExpandBody:     s.expandBody,
		routes.VMAddVolume:    s.vmAddVolume,
		routes.VMRemoveVolume: s.vmRemoveVolume,
		routes.VMCancelEvac:   s.vmEvacuateCancel,
		routes.VMPortForward:  s.portForward,
		routes.VMGraph:        s.vmGraph,
		routes.MemoryDump:     s.memoryDump,
		routes.RemoveDump:     s.removeMemoryDump,

		routes.Pause:           s.pause,
		routes.Unpause:         s.unpause,
		routes.Freeze:          s.freeze,
		routes.Unfreeze:        s.unfreeze,
		routes.Reset:           s.reset,
		routes.SoftReboot:      s.softReboot,
		routes.Console:         s.console,
		routes.VNC:             s.vnc,
		routes.Screenshot:      s.screenshot,
		routes.PortForward:     s.portForward,
		routes.GuestOSInfo:     s.guestInfo("guestosinfo"),
		routes.UserList:        s.guestInfo("userlist"),
		routes.FilesystemList:  s.guestInfo("filesystemlist"),
		routes.VMIAddVolume:    s.vmiAddVolume,
		routes.VMIRemoveVolume: s.vmiRemoveVolume,
		routes.VMICancelEvac:   s.vmiEvacuateCancel,
		routes.VMIGraph:        s.vmiGraph,
		routes.USBRedir:        s.usbRedir,
		routes.VSOCK:           s.vsock,
		routes.SEVCertChain:    s.sev(false),
		routes.SEVMeasurement:  s.sev(true),
		routes.SEVSession:      s.sevSession,
		routes.SEVSecret:       s.sev(true),
		routes.Backup:          s.backup,
		routes.Checkpoint:      s.backup,

		routes.Version: s.version,
		routes.GuestFS: s.guestFS,
		routes.Healthz: s.healthz,
	}
	out := make(map[routes.Handler]http.Handler, len(handlers))
	for name, h := range handlers {
		out[name] = serve(h)
	}
	return out
}

func serve(h func(*request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(&request{ResponseWriter: w, Request: r, namespace: r.PathValue("namespace"), name: r.PathValue("name")})
		if err != nil {
			reply.Error(w, err)
		}
	})
}
