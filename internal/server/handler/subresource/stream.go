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
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handover"
)

const (
	// plainProtocol is the websocket subprotocol of raw streams: binary messages, whose borders mean nothing (contract).
	plainProtocol = "plain.kubevirt.io"
	bufferSize    = 10240
	copyBuffer    = 32 << 10
	// pingPeriod keeps proxies and load balancers from taking an idle console for a dead one.
	pingPeriod   = 10 * time.Second
	writeTimeout = 30 * time.Second
	// answerPatience is how long virt-api and the launcher may take, each, to take part in handing a stream over.
	answerPatience = 3 * time.Second
	// takenOver is told to a session that another one ends. It must not look like an end that was asked for: clients made for KubeVirt
	// tell their users about it when the connection ends in an error, and look for EOF in that.
	takenOver = "another session has taken over (EOF)"
)

func (s *Server) console(w http.ResponseWriter, r *http.Request, vm target) error {
	replay, _ := strconv.ParseBool(r.URL.Query().Get("replay"))
	return s.stream(w, r, vm, "console", func(ctx context.Context) (*os.File, error) {
		return vm.client.Console(ctx, replay)
	})
}

func (s *Server) vnc(w http.ResponseWriter, r *http.Request, vm target) error {
	return s.stream(w, r, vm, "vnc", vm.client.VNC)
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
		return s.carry(w, r, successor{}, func(ctx context.Context) (*os.File, error) {
			return vm.client.USB(ctx, wire.USBRequest{Slot: slot})
		})
	}
	return &statusError{http.StatusServiceUnavailable, fmt.Sprintf("all %d places for USB devices of %s are in use; disconnect one", layout.USBSlots, vm.name)}
}

// stream joins a websocket with a stream of the launcher that one session at a time can have, or goes on with one that an earlier
// virt-handler has left there.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, vm target, kind string, open func(context.Context) (*os.File, error)) error {
	if err := upgradable(r); err != nil {
		return err
	}
	query := r.URL.Query()
	preserve, _ := strconv.ParseBool(query.Get("preserveSession"))
	kicked, end, ok := s.sessions.begin(sessionKey{vm.name, kind}, preserve)
	if !ok {
		return &statusError{http.StatusServiceUnavailable, "somebody else uses the " + kind + " of " + vm.name.String() +
			"; connect without preserveSession to take it over"}
	}
	defer end()
	if key := query.Get(handover.Resume); key != "" {
		open = func(ctx context.Context) (*os.File, error) { return vm.client.Unpark(ctx, key) }
	}
	to := successor{kicked: kicked}
	if offered, _ := strconv.ParseBool(query.Get(handover.Offer)); offered {
		to.park = vm.client.Park
	}
	return s.carry(w, r, to, open)
}

// successor is who has a stream after this session, if it does not end by itself.
type successor struct {
	// kicked is closed when another session takes over.
	kicked <-chan struct{}
	// stop is closed when this server ends; park then keeps the stream for the next one. It is nil when it cannot be kept.
	stop <-chan struct{}
	park func(ctx context.Context, key string, stream *os.File) error
}

func upgradable(r *http.Request) error {
	if !websocket.IsWebSocketUpgrade(r) {
		return &statusError{http.StatusBadRequest, "this is a websocket; connect with a websocket client"}
	}
	return nil
}

// carry joins a websocket with a stream of the launcher, which is asked first, so that its refusal is an HTTP error.
func (s *Server) carry(w http.ResponseWriter, r *http.Request, to successor, open func(context.Context) (*os.File, error)) error {
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
	to.stop = s.Sessions.Stop()
	join(ws, guest, to)
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

// session is a websocket joined with a stream of the guest.
type session struct {
	ws    *websocket.Conn
	guest net.Conn
	to    successor
	// key is set when the stream is handed over.
	key atomic.Pointer[string]
	// said is closed when nothing more of the guest is sent.
	said chan struct{}
}

// join copies both ways until one side ends, or the stream goes to a successor.
func join(ws *websocket.Conn, guest net.Conn, to successor) {
	defer ws.Close()
	s := &session{ws: ws, guest: guest, to: to, said: make(chan struct{})}
	var copying sync.WaitGroup
	done := make(chan struct{})
	copying.Go(func() { s.watchOver(done) })
	copying.Go(func() {
		defer close(s.said)
		fromGuest(ws, guest)
		if s.key.Load() == nil {
			closeWith(ws, websocket.CloseNormalClosure, "the stream has ended")
			_ = ws.Close()
		}
	})
	err := toGuest(guest, ws)
	if key := s.key.Load(); key != nil && handover.Answered(err) {
		s.park(*key)
	}
	_ = guest.Close()
	close(done)
	copying.Wait()
}

// handOver closes the websocket behind the last byte of the guest. What the client still sends is taken until its answer comes.
func (s *session) handOver() {
	key := handover.NewKey()
	s.key.Store(&key)
	_ = s.guest.SetReadDeadline(time.Unix(1, 0))
	<-s.said
	_ = s.ws.WriteControl(websocket.CloseMessage, handover.Close(key), time.Now().Add(answerPatience))
	_ = s.ws.SetReadDeadline(time.Now().Add(answerPatience))
}

// park leaves the stream with the launcher. If that fails, the client is refused when it asks for it.
func (s *session) park(key string) {
	guest, ok := s.guest.(*net.UnixConn)
	if !ok {
		return
	}
	file, err := guest.File()
	if err != nil {
		return
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(context.Background(), answerPatience)
	defer cancel()
	_ = s.to.park(ctx, key, file)
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

// toGuest tells why it has ended.
func toGuest(guest io.Writer, ws *websocket.Conn) error {
	buf := make([]byte, copyBuffer)
	for {
		_, r, err := ws.NextReader()
		if err != nil {
			return err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{guest}, r, buf); err != nil {
			return err
		}
	}
}

// watchOver keeps an idle connection alive, and ends one that goes to somebody else.
func (s *session) watchOver(done <-chan struct{}) {
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-s.to.kicked:
			closeWith(s.ws, websocket.ClosePolicyViolation, takenOver)
			return
		case <-s.to.stop:
			if s.to.park == nil {
				closeWith(s.ws, websocket.CloseNormalClosure, "virt-handler is replaced; connect again")
				return
			}
			s.handOver()
			return
		case <-ticker.C:
			if err := s.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(pingPeriod)); err != nil && !errors.Is(err, websocket.ErrCloseSent) {
				_ = s.ws.Close()
				return
			}
		}
	}
}

// closeWith says goodbye; the reader on our side ends when the other side answers or after a moment. The first goodbye counts.
func closeWith(ws *websocket.Conn, code int, reason string) {
	const patience = time.Second
	_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(patience))
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
