// Package console shares a guest's serial port between the log and one interactive session. The guest is never kept waiting by
// either: what they do not read in time, they miss.
package console

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// ReplaySize is how much recent output a new session gets first.
	ReplaySize = 256 << 10
	chunkSize  = 16 << 10
	// stalled is how long a session may read nothing of what waits for it before it is dropped.
	stalled = 60 * time.Second
	// inputPatience is how long one attempt to type waits for a guest that does not read.
	inputPatience = time.Second
)

// ErrNotConnected says that there is no serial port to talk to.
var ErrNotConnected = errors.New("the guest's serial console is not connected")

// Hub joins a serial port, a log and a session.
type Hub struct {
	mu      sync.Mutex
	wake    *sync.Cond
	ring    *ring
	port    net.Conn
	session *session
	closed  bool
	quiet   bool // the log is off

	input   sync.Mutex // one writer to the port
	workers sync.WaitGroup
}

type session struct {
	conn net.Conn
	done bool
	// from is where in the guest's output the session begins.
	from int64
}

// New returns a hub. log, which may be nil, gets the output line by line.
func New(log io.Writer) *Hub {
	h := &Hub{ring: newRing(ReplaySize)}
	h.wake = sync.NewCond(&h.mu)
	if log != nil {
		h.workers.Go(func() { h.copyToLog(log) })
	}
	return h
}

// Connect joins the serial port behind a unix socket. Connecting again replaces the port (a guest that came by migration).
func (h *Hub) Connect(path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return fmt.Errorf("connect to the serial console: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		_ = conn.Close()
		return ErrNotConnected
	}
	if h.port != nil {
		_ = h.port.Close()
	}
	h.port = conn
	h.workers.Go(func() { h.readPort(conn) })
	return nil
}

// SetLog turns the log on or off; it is on at first.
func (h *Hub) SetLog(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quiet = !on
}

func (h *Hub) logging() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.quiet
}

// Connected tells whether a port is joined.
func (h *Hub) Connected() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.port != nil
}

// Open starts a session and returns the other end of its socket. It ends the session before it. The session begins with the
// recent output if replay is set, else with what the guest says from now on.
func (h *Hub) Open(replay bool) (*os.File, error) {
	mine, theirs, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("open a console session: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.port == nil || h.closed {
		_ = mine.Close()
		_ = theirs.Close()
		return nil, ErrNotConnected
	}
	h.endSession()
	s := &session{conn: mine, from: h.ring.end}
	if replay {
		s.from = h.ring.oldest()
	}
	h.session = s
	h.workers.Go(func() { h.copyToSession(s) })
	h.workers.Go(func() { h.copyFromSession(s) })
	return theirs, nil
}

// Close ends the session and the log after what was read until now is in the log.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	h.endSession()
	if h.port != nil {
		_ = h.port.Close()
		h.port = nil
	}
	h.wake.Broadcast()
	h.mu.Unlock()
	h.workers.Wait()
}

// endSession needs the lock.
func (h *Hub) endSession() {
	if h.session != nil {
		h.session.done = true
		_ = h.session.conn.Close()
		h.session = nil
		h.wake.Broadcast()
	}
}

func (h *Hub) readPort(port net.Conn) {
	buf := make([]byte, chunkSize)
	for {
		n, err := port.Read(buf)
		h.mu.Lock()
		h.ring.write(buf[:n])
		h.wake.Broadcast()
		if err != nil {
			if h.port == port {
				_ = port.Close()
				h.port = nil
				h.wake.Broadcast()
			}
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
	}
}

// next waits for output after position at. lost is how many bytes the reader was too slow for; done that no more will come.
func (h *Hub) next(buf []byte, at int64, ended func() bool) (n int, lost int64, done bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.ring.end == at && !ended() {
		h.wake.Wait()
	}
	if h.ring.end == at || ended() && !h.closed {
		return 0, 0, true
	}
	if oldest := h.ring.oldest(); at < oldest {
		lost = oldest - at
	}
	return h.ring.read(buf, at+lost), lost, false
}

func (h *Hub) copyToLog(out io.Writer) {
	log := &lineLog{out: out}
	defer log.close()
	buf := make([]byte, chunkSize)
	var at int64
	for {
		n, lost, done := h.next(buf, at, func() bool { return h.closed })
		if done {
			return
		}
		at += lost + int64(n)
		if !h.logging() {
			continue
		}
		if lost > 0 {
			log.lost(lost)
		}
		log.Write(buf[:n])
	}
}

// copyToSession replays the ring and follows. It ends with the session, or after the last output of a port that has gone.
func (h *Hub) copyToSession(s *session) {
	defer h.dropSession(s)
	h.mu.Lock()
	at := max(s.from, h.ring.oldest())
	replay := make([]byte, h.ring.end-at)
	h.ring.read(replay, at)
	at = h.ring.end
	h.mu.Unlock()
	if !s.write(withoutQuestions(replay)) {
		return
	}
	buf := make([]byte, chunkSize)
	for {
		n, lost, done := h.next(buf, at, func() bool { return s.done || h.closed || h.port == nil && h.ring.end == at })
		if done {
			return
		}
		if lost > 0 && !s.write(fmt.Appendf(nil, "\r\n[%d bytes of output skipped]\r\n", lost)) {
			return
		}
		if !s.write(buf[:n]) {
			return
		}
		at += lost + int64(n)
	}
}

func (s *session) write(p []byte) bool {
	for len(p) > 0 {
		_ = s.conn.SetWriteDeadline(time.Now().Add(stalled))
		n, err := s.conn.Write(p[:min(len(p), chunkSize)])
		if err != nil {
			return false
		}
		p = p[n:]
	}
	return true
}

func (h *Hub) copyFromSession(s *session) {
	buf := make([]byte, chunkSize)
	for {
		n, err := s.conn.Read(buf)
		for typed := buf[:n]; len(typed) > 0; {
			port := h.portOf(s)
			if port == nil {
				return
			}
			typed = typed[h.typeInto(port, typed):]
		}
		if errors.Is(err, io.EOF) {
			return // the user has typed all; the output goes on until the other direction is closed too
		}
		if err != nil {
			h.dropSession(s)
			return
		}
	}
}

// typeInto writes to the port for a bounded time, because a guest that does not read must not keep the next session out.
func (h *Hub) typeInto(port net.Conn, p []byte) int {
	h.input.Lock()
	defer h.input.Unlock()
	_ = port.SetWriteDeadline(time.Now().Add(inputPatience))
	n, err := port.Write(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return len(p) // the port is gone; the reader has noticed too
	}
	return n
}

func (h *Hub) portOf(s *session) net.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.done {
		return nil
	}
	return h.port
}

func (h *Hub) dropSession(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session == s {
		h.endSession()
	}
}

func socketpair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	mine := os.NewFile(uintptr(fds[0]), "console")
	theirs := os.NewFile(uintptr(fds[1]), "console")
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}
