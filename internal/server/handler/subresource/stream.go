package subresource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

const (
	// plainProtocol is the websocket subprotocol of raw streams: binary messages, whose borders mean nothing (contract).
	plainProtocol = "plain.kubevirt.io"
	bufferSize    = 10240
	copyBuffer    = 32 << 10
	// pingPeriod keeps proxies and load balancers from taking an idle console for a dead one.
	pingPeriod   = 10 * time.Second
	writeTimeout = 30 * time.Second
)

func (s *Server) console(w http.ResponseWriter, r *http.Request, vm target) error {
	replay, _ := strconv.ParseBool(r.URL.Query().Get("replay"))
	return s.stream(w, r, sessionKey{vm.name, "console"}, func(ctx context.Context) (*os.File, error) {
		return vm.client.Console(ctx, replay)
	})
}

func (s *Server) vnc(w http.ResponseWriter, r *http.Request, vm target) error {
	return s.stream(w, r, sessionKey{vm.name, "vnc"}, vm.client.VNC)
}

func (s *Server) screenshot(w http.ResponseWriter, r *http.Request, vm target) error {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	blob, err := vm.client.Screenshot(ctx)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Content-Length", strconv.Itoa(len(blob.Data)))
	_, _ = w.Write(blob.Data) // the caller has gone; nobody to tell
	return nil
}

// usbRedir gives a client's USB device the first free place in the guest. Nobody is driven out: a device in use stays.
func (s *Server) usbRedir(w http.ResponseWriter, r *http.Request, vm target) error {
	if err := upgradable(r); err != nil {
		return err
	}
	for slot := range layout.USBSlots {
		_, end, free := s.sessions.begin(sessionKey{vm.name, "usbredir" + strconv.Itoa(slot)}, true)
		if !free {
			continue
		}
		defer end()
		return s.carry(w, r, nil, func(ctx context.Context) (*os.File, error) {
			return vm.client.USB(ctx, wire.USBRequest{Slot: slot})
		})
	}
	return &statusError{http.StatusServiceUnavailable, fmt.Sprintf("all %d places for USB devices of %s are in use; disconnect one", layout.USBSlots, vm.name)}
}

// stream joins a websocket with a stream of the launcher that one session at a time can have.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, key sessionKey, open func(context.Context) (*os.File, error)) error {
	if err := upgradable(r); err != nil {
		return err
	}
	preserve, _ := strconv.ParseBool(r.URL.Query().Get("preserveSession"))
	kicked, end, ok := s.sessions.begin(key, preserve)
	if !ok {
		return &statusError{http.StatusServiceUnavailable, "somebody else uses the " + key.kind + " of " + key.vm.String() +
			"; connect without preserveSession to take it over"}
	}
	defer end()
	return s.carry(w, r, kicked, open)
}

func upgradable(r *http.Request) error {
	if !websocket.IsWebSocketUpgrade(r) {
		return &statusError{http.StatusBadRequest, "this is a websocket; connect with a websocket client"}
	}
	return nil
}

// carry joins a websocket with a stream of the launcher, which is asked first, so that its refusal is an HTTP error.
func (s *Server) carry(w http.ResponseWriter, r *http.Request, kicked <-chan struct{}, open func(context.Context) (*os.File, error)) error {
	defer s.Sessions.Add()()
	guest, err := openStream(r.Context(), open)
	if err != nil {
		return err
	}
	defer guest.Close()
	upgrader := websocket.Upgrader{
		Subprotocols: []string{plainProtocol}, ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
		// Callers are known by their certificate; a browser's origin says nothing here.
		CheckOrigin: func(*http.Request) bool { return true },
		Error: func(w http.ResponseWriter, _ *http.Request, code int, reason error) {
			writeError(w, &statusError{code, "this is a websocket: " + reason.Error()})
		},
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil // answered by the upgrader
	}
	join(ws, guest, kicked, s.Sessions.Stop())
	return nil
}

func openStream(ctx context.Context, open func(context.Context) (*os.File, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	file, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("use the launcher's stream: %w", err)
	}
	return conn, nil
}

// join copies both ways until one side ends, another session takes over, or the server cannot wait for it any longer.
func join(ws *websocket.Conn, guest net.Conn, kicked, stop <-chan struct{}) {
	defer ws.Close()
	var copying sync.WaitGroup
	done := make(chan struct{})
	copying.Go(func() { watchOver(ws, kicked, stop, done) })
	copying.Go(func() {
		fromGuest(ws, guest)
		closeWith(ws, "the stream has ended")
		_ = ws.Close()
	})
	toGuest(guest, ws)
	_ = guest.Close()
	close(done)
	copying.Wait()
}

// fromGuest sends what the guest says, each read as one message.
func fromGuest(ws *websocket.Conn, guest io.Reader) {
	buf := make([]byte, copyBuffer)
	for {
		n, err := guest.Read(buf)
		if n > 0 {
			if ws.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil || ws.WriteMessage(websocket.BinaryMessage, buf[:n]) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func toGuest(guest io.Writer, ws *websocket.Conn) {
	buf := make([]byte, copyBuffer)
	for {
		_, r, err := ws.NextReader()
		if err != nil {
			return
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{guest}, r, buf); err != nil {
			return
		}
	}
}

// watchOver keeps an idle connection alive, and ends one that was taken over.
func watchOver(ws *websocket.Conn, kicked, stop, done <-chan struct{}) {
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-kicked:
			closeWith(ws, "another session has taken over")
			return
		case <-stop:
			closeWith(ws, "virt-handler is replaced; connect again")
			return
		case <-ticker.C:
			if err := ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(pingPeriod)); err != nil && !errors.Is(err, websocket.ErrCloseSent) {
				_ = ws.Close()
				return
			}
		}
	}
}

// closeWith says goodbye; the reader on our side ends when the other side answers or after a moment. The first goodbye counts.
func closeWith(ws *websocket.Conn, reason string) {
	const patience = time.Second
	_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, reason), time.Now().Add(patience))
	_ = ws.SetReadDeadline(time.Now().Add(patience))
}

type sessionKey struct {
	vm   types.NamespacedName
	kind string
}

// sessions knows who uses which stream. A new session ends the one before.
type sessions struct {
	mu     sync.Mutex
	active map[sessionKey]chan struct{}
}

// begin starts a session; kicked is closed when another takes over. With preserve it does not take over, and may fail.
func (s *sessions) begin(key sessionKey, preserve bool) (kicked <-chan struct{}, end func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, busy := s.active[key]
	if busy && preserve {
		return nil, nil, false
	}
	if busy {
		close(old)
	}
	mine := make(chan struct{})
	if s.active == nil {
		s.active = map[sessionKey]chan struct{}{}
	}
	s.active[key] = mine
	return mine, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.active[key] == mine {
			delete(s.active, key)
		}
	}, true
}
