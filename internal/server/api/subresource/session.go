package subresource

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/api/stream"
)

const (
	subprotocol      = "plain.kubevirt.io"
	handshakeTimeout = 10 * time.Second
	dialTimeout      = 10 * time.Second
	streamBuffer     = 10240
)

func (s *Server) console(r *request) error {
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	if a := vmi.Spec.Domain.Devices.AutoattachSerialConsole; a != nil && !*a {
		return apierrors.NewBadRequest("No serial consoles are present.")
	}
	if vmi.Status.Phase == v1.Failed {
		return vmiConflict(vmi.Name, "VMI is in failed status")
	}
	// 400 and not 409: clients take it for "wait, it is still starting".
	if vmi.Status.Phase != v1.Running {
		return apierrors.NewBadRequest(vmiNotRunning)
	}
	query, err := flag(r, "replay")
	if err != nil {
		return err
	}
	return s.relay(r, vmi, "console", query)
}

func (s *Server) vnc(r *request) error {
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	if err := graphical(vmi); err != nil {
		return err
	}
	query, err := flag(r, "preserveSession")
	if err != nil {
		return err
	}
	return s.relay(r, vmi, "vnc", query)
}

// flag is a query parameter that is true, false or absent, as the node agent gets it.
func flag(r *request, name string) (url.Values, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return nil, nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s %q is neither true nor false", name, v))
	}
	return url.Values{name: {strconv.FormatBool(on)}}, nil
}

func graphical(vmi *v1.VirtualMachineInstance) error {
	if a := vmi.Spec.Domain.Devices.AutoattachGraphicsDevice; a != nil && !*a {
		return apierrors.NewBadRequest("No graphics devices are present.")
	}
	if vmi.Status.Phase != v1.Running {
		return apierrors.NewBadRequest(vmiNotRunning)
	}
	return nil
}

// relay joins the client's websocket with one to the node agent. The agent comes first, so that its refusal still reaches the
// client as an HTTP error.
func (s *Server) relay(r *request, vmi *v1.VirtualMachineInstance, verb string, query url.Values) error {
	if err := upgradable(r); err != nil {
		return err
	}
	agent, err := s.Node.Dial(r.Context(), vmi, verb, query)
	if err != nil {
		return err
	}
	client, err := s.upgrade(r)
	if err != nil {
		_ = agent.Close()
		return nil
	}
	defer s.Streams.Add()()
	defer s.Sessions.Open(verb, vmi.Namespace, vmi.Name)()
	resume := func(ctx context.Context, key string) (*websocket.Conn, error) {
		return s.Node.Resume(ctx, vmi, verb, key)
	}
	if err := stream.Relay(client, agent, resume, s.Streams.Stop()); err != nil {
		s.Log.Info("session broke off", "kind", verb, "namespace", vmi.Namespace, "name", vmi.Name, "error", err)
	}
	return nil
}

func upgradable(r *request) error {
	if !websocket.IsWebSocketUpgrade(r.Request) {
		return apierrors.NewBadRequest("this is a stream: connect with a websocket and the subprotocol " + subprotocol)
	}
	return nil
}

// upgrade answers the client itself when it fails.
func (s *Server) upgrade(r *request) (*websocket.Conn, error) {
	upgrader := websocket.Upgrader{
		HandshakeTimeout: handshakeTimeout, ReadBufferSize: streamBuffer, WriteBufferSize: streamBuffer,
		Subprotocols: []string{subprotocol},
		// Requests are authenticated by headers of the aggregator, never by cookies: there is nothing to forge across sites.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	conn, err := upgrader.Upgrade(r.ResponseWriter, r.Request, nil)
	if err != nil {
		s.Log.Info("could not upgrade a connection", "path", r.URL.Path, "error", err)
	}
	return conn, err
}

// portForward opens a connection from here to the guest. The VM's instance has the VM's name, so one handler does for both.
func (s *Server) portForward(r *request) error {
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 16)
	if err != nil || port == 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("port %q is not a number from 1 to 65535", r.PathValue("port")))
	}
	protocol := r.PathValue("protocol")
	switch protocol {
	case "":
		protocol = "tcp"
	case "tcp", "udp":
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("protocol %q is neither tcp nor udp", protocol))
	}
	if err := upgradable(r); err != nil {
		return err
	}
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	address, err := guestAddress(vmi)
	if err != nil {
		return err
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	guest, err := dialer.DialContext(r.Context(), protocol, netip.AddrPortFrom(address, uint16(port)).String())
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("connect to the guest: %w; check that something listens there", err))
	}
	client, err := s.upgrade(r)
	if err != nil {
		_ = guest.Close()
		return nil
	}
	defer s.Streams.Add()()
	defer s.Sessions.Open("portforward", vmi.Namespace, vmi.Name)()
	if err := stream.Forward(client, guest, s.Streams.Stop()); err != nil {
		s.Log.Info("session broke off", "kind", "portforward", "namespace", vmi.Namespace, "name", vmi.Name, "error", err)
	}
	return nil
}

// guestAddress gives the address to forward to. A guest's agent may report any address, so those that would reach this
// program itself or the node's own services are refused.
func guestAddress(vmi *v1.VirtualMachineInstance) (netip.Addr, error) {
	if vmi.IsFinal() {
		return netip.Addr{}, apierrors.NewBadRequest(vmiNotRunning)
	}
	if err := notPaused(vmi); err != nil {
		return netip.Addr{}, err
	}
	if len(vmi.Status.Interfaces) == 0 || vmi.Status.Interfaces[0].IP == "" {
		return netip.Addr{}, apierrors.NewBadRequest("no network interfaces are present")
	}
	address, err := netip.ParseAddr(vmi.Status.Interfaces[0].IP)
	if err != nil {
		return netip.Addr{}, apierrors.NewInternalError(fmt.Errorf("the VMI's address: %w", err))
	}
	address = address.Unmap()
	if !address.IsGlobalUnicast() || address.IsLinkLocalUnicast() {
		return netip.Addr{}, apierrors.NewBadRequest(fmt.Sprintf("the VMI's address %s cannot be reached from other machines", address))
	}
	return address, nil
}
