package launcher

import (
	"context"
	"errors"
	"os"
	"sync"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/session"
	"virtctl/internal/libvirt/wire"
)

// maxQueued bounds libvirt events that wait; a guest could reboot in a tight loop.
const maxQueued = 1024

// eventQueue takes events out of libvirt's event loop, which must not block.
type eventQueue struct {
	mu     sync.Mutex
	events []session.Event
	wake   chan struct{}
}

func newEventQueue() *eventQueue { return &eventQueue{wake: make(chan struct{}, 1)} }

func (q *eventQueue) put(e session.Event) {
	q.mu.Lock()
	if len(q.events) < maxQueued || e.Change != nil || e.Job != nil {
		q.events = append(q.events, e)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// recheck has the domain's state looked at.
func (q *eventQueue) recheck() {
	q.put(session.Event{Change: &session.Change{State: wire.StateRunning}})
}

func (q *eventQueue) take() []session.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events
}

func (l *Launcher) handleEvents(ctx context.Context) {
	for {
		select {
		case <-l.events.wake:
		case <-ctx.Done():
			return
		}
		for _, e := range l.events.take() {
			l.handle(ctx, e)
		}
	}
}

func (l *Launcher) handle(ctx context.Context, e session.Event) {
	switch {
	case e.Change != nil:
		l.handleChange(ctx, *e.Change)
	case e.Agent != nil:
		l.machine.setAgent(*e.Agent)
	case e.Rebooted:
		l.machine.rebooted()
	case e.PluggedMemory != nil:
		l.machine.setMemory(*e.PluggedMemory)
	case e.DeviceRemoved != "":
		l.machine.deviceRemoved(e.DeviceRemoved)
	case e.Pass > 1:
		l.migration.sentOnce()
	case e.Job != nil:
		l.migration.finished(*e.Job)
	}
}

// handleChange takes the end of a domain from the event, which alone knows the reason, and any other state from the domain
// itself: events come late and say what was.
func (l *Launcher) handleChange(ctx context.Context, c session.Change) {
	if final(c.State) {
		if l.domainLives() {
			return // it is about a domain that failed to start, another one has started since
		}
		detail := ""
		if c.State == wire.StateCrashed || c.Reason == wire.ReasonFailed {
			detail = l.obituary()
		}
		l.machine.set(c.State, c.Reason, detail)
		return
	}
	if c.Incoming {
		l.machine.setIncoming()
		l.connectConsole()
	}
	if !l.starting.TryLock() {
		return // Start publishes the state itself when it is done
	}
	defer l.starting.Unlock()
	s, err := l.manager.get(ctx)
	if err != nil {
		return
	}
	name, state, reason, err := s.State()
	if err != nil || final(state) {
		return // its end comes as an event of its own
	}
	l.setDomain(name)
	if reason == wire.ReasonMigrated {
		l.readMemory(s) // its events were another launcher's
	}
	l.machine.set(state, reason, "")
}

// readMemory learns how much memory is plugged where no event tells.
func (l *Launcher) readMemory(s *session.Session) {
	if xml, err := s.XML(wire.DomainXMLRequest{}); err == nil {
		l.machine.setMemory(pluggedMemory(xml))
	}
}

// domainLives asks the daemon, if it is there to be asked.
func (l *Launcher) domainLives() bool {
	s := l.manager.peek()
	if s == nil {
		return false
	}
	_, state, _, err := s.State()
	return err == nil && !final(state)
}

func (l *Launcher) connectConsole() {
	if l.console.Connected() {
		return
	}
	err := l.console.Connect(layout.SerialSocket)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a guest may have no serial port
		l.logf("%v", err)
	}
}
