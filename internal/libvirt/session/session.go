// Package session talks to libvirt's QEMU daemon for the one domain of a launcher pod. It is the only package with cgo.
package session

import (
	"fmt"
	"net/url"
	"sync"

	"libvirt.org/go/libvirt"

	"virtctl/internal/libvirt/wire"
)

// registerEventLoop starts libvirt's event loop, once in a process: libvirt has only one. It sleeps in poll(2).
var registerEventLoop = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return fmt.Errorf("register libvirt's event loop: %w", err)
	}
	go func() {
		for {
			// An error here is about one iteration; the next one serves what this one did not.
			_ = libvirt.EventRunDefaultImpl()
		}
	}()
	return nil
})

// Session is a connection to the daemon.
type Session struct {
	conn   *libvirt.Connect
	closed chan struct{}

	mu     sync.Mutex
	domain *libvirt.Domain
}

// URI is how clients name the daemon that listens on socket.
func URI(socket string) string {
	return "qemu+unix:///session?mode=direct&socket=" + url.QueryEscape(socket)
}

// Open connects. sink is called with every event, from libvirt's event loop: it must not block nor call the session.
func Open(socket string, sink func(Event)) (*Session, error) {
	if err := registerEventLoop(); err != nil {
		return nil, err
	}
	conn, err := libvirt.NewConnect(URI(socket))
	if err != nil {
		return nil, wrap("connect to libvirt", err)
	}
	s := &Session{conn: conn, closed: make(chan struct{})}
	if err := s.subscribe(sink); err != nil {
		_, _ = conn.Close()
		return nil, err
	}
	return s, nil
}

// Closed is closed when the daemon has gone away.
func (s *Session) Closed() <-chan struct{} { return s.closed }

// Alive tells whether the connection still stands, as far as is known here.
func (s *Session) Alive() bool {
	alive, err := s.conn.IsAlive()
	return err == nil && alive
}

// Close ends the connection.
func (s *Session) Close() {
	s.forget()
	_ = s.conn.UnregisterCloseCallback()
	_, _ = s.conn.Close()
}

// Versions returns libvirt's and QEMU's version in words; QEMU's is empty as long as libvirt has not looked.
func (s *Session) Versions() (lib, qemu string) {
	if v, err := s.conn.GetLibVersion(); err == nil {
		lib = dotted(v)
	}
	if v, err := s.conn.GetVersion(); err == nil && v != 0 {
		qemu = dotted(v)
	}
	return lib, qemu
}

func dotted(v uint32) string { return fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000) }

// Capabilities returns libvirt's document about the host.
func (s *Session) Capabilities() (string, error) {
	xml, err := s.conn.GetCapabilities()
	return xml, wrap("read the host's capabilities", err)
}

// DomainCapabilities returns libvirt's document about what QEMU can do here. It makes libvirt load or fill its cache.
func (s *Session) DomainCapabilities(arch, machine, virtType string) (string, error) {
	xml, err := s.conn.GetDomainCapabilities("", arch, machine, virtType, 0)
	return xml, wrap("read QEMU's capabilities", err)
}

// lookup returns the pod's domain.
func (s *Session) lookup() (*libvirt.Domain, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.domain != nil {
		return s.domain, nil
	}
	domains, err := s.conn.ListAllDomains(libvirt.CONNECT_LIST_DOMAINS_ACTIVE)
	if err != nil {
		return nil, wrap("look the domain up", err)
	}
	if len(domains) == 0 {
		return nil, errNoDomain()
	}
	for i := 1; i < len(domains); i++ {
		_ = domains[i].Free()
	}
	s.domain = &domains[0]
	return s.domain, nil
}

// forget drops the handle of a domain that may have ended; the next call looks it up again. The handle is not freed, because
// another call may be using it: it is a few bytes, once in the life of a pod.
func (s *Session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.domain = nil
}

// State returns the domain's name and state; CodeNotFound means that there is none.
func (s *Session) State() (name string, state wire.DomainState, reason wire.Reason, err error) {
	d, err := s.lookup()
	if err != nil {
		return "", wire.StateNone, "", err
	}
	number, detail, err := d.GetState()
	if err != nil {
		err = wrap("read the domain's state", err)
		if wire.CodeOf(err) == wire.CodeNotFound {
			s.forget()
		}
		return "", wire.StateNone, "", err
	}
	if name, err = d.GetName(); err != nil {
		return "", wire.StateNone, "", wrap("read the domain's name", err)
	}
	state, reason = stateOf(number, detail)
	return name, state, reason, nil
}
