package launcher

import (
	"context"
	"sync"
	"time"

	"virtctl/internal/libvirt/wire"
)

// keptEvents is how far a watcher may lag behind before it is given the present state instead of what it missed.
const keptEvents = 64

// machine is the domain's state as the handler sees it, and its history's tail.
type machine struct {
	now func() time.Time

	mu       sync.Mutex
	state    wire.State
	events   []wire.Event // the last ones
	count    int          // how many there have ever been
	wake     chan struct{}
	ended    chan struct{} // closed once the domain is in a final state
	ever     bool          // a domain has run here
	watchers int
	// came tells that the guest's agent has come and can be asked; changed that it can be asked again. Between its coming
	// and came it is fresh.
	came, changed    chan struct{}
	reachable, fresh bool
	// late tells that the guest stood still and that its agent can be asked to set its clock; stood is the first half of that.
	late  chan struct{}
	stood bool
}

func newMachine(now func() time.Time) *machine {
	return &machine{
		now: now, wake: make(chan struct{}), ended: make(chan struct{}), came: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		late:  make(chan struct{}, 1),
		state: wire.State{State: wire.StateNone, Since: now()},
	}
}

func final(s wire.DomainState) bool { return s == wire.StateShutoff || s == wire.StateCrashed }

func (m *machine) current() wire.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// started tells whether a domain has ever run here.
func (m *machine) started() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ever
}

// set enters a state. The final state of a domain stays: the pod has only one domain in its life.
func (m *machine) set(state wire.DomainState, reason wire.Reason, detail string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.state
	if final(state) && old.State == wire.StateNone && !old.Incoming {
		return // a start that failed: libvirt tells of the end of a domain that never was
	}
	if final(state) && old.Incoming {
		state, reason = wire.StateShutoff, wire.ReasonFailed // the guest did not end: it never came
	}
	if final(old.State) || old.State == state && (old.Reason == reason || weaker(state, reason)) {
		return
	}
	if old.State != state {
		m.state.Since = m.now()
	}
	m.state.State, m.state.Reason, m.state.Detail = state, reason, detail
	switch {
	case final(state):
		m.state.AgentConnected = false
		close(m.ended)
	case state == wire.StateRunning:
		m.stood = m.stood || m.ever && old.State == wire.StatePaused || reason == wire.ReasonMigrated
		m.state.Incoming = false
		m.ever = true
	}
	m.publish(wire.Event{State: m.state})
}

// weaker tells that a reason says less than any the state may have now: libvirt calls a domain "unpaused" that Start resumed.
func weaker(state wire.DomainState, reason wire.Reason) bool {
	return state == wire.StateRunning && (reason == wire.ReasonUnpaused || reason == wire.ReasonUnknown)
}

func (m *machine) setIncoming() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.State == wire.StateNone && !m.state.Incoming {
		m.state.Incoming = true
		m.publish(wire.Event{State: m.state})
	}
}

func (m *machine) setAgent(connected bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.AgentConnected != connected && !final(m.state.State) {
		m.state.AgentConnected, m.fresh = connected, connected
		m.publish(wire.Event{State: m.state})
	}
}

func (m *machine) setMemory(plugged uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.PluggedMemory != plugged && !final(m.state.State) {
		m.state.PluggedMemory = plugged
		m.publish(wire.Event{State: m.state})
	}
}

func (m *machine) rebooted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.publish(wire.Event{State: m.state, Rebooted: true})
}

func (m *machine) deviceRemoved(alias string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.publish(wire.Event{State: m.state, DeviceRemoved: alias})
}

// filesystems says that the guest's filesystems were frozen or thawed.
func (m *machine) filesystems() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.publish(wire.Event{State: m.state, Filesystems: true})
}

// publish needs the lock.
func (m *machine) publish(e wire.Event) {
	if len(m.events) == keptEvents {
		m.events = append(m.events[:0], m.events[1:]...)
	}
	m.events = append(m.events, e)
	m.count++
	close(m.wake)
	m.wake = make(chan struct{})
	m.signalAgent()
}

// signalAgent needs the lock.
func (m *machine) signalAgent() {
	before := m.reachable
	m.reachable = m.state.State == wire.StateRunning && m.state.AgentConnected
	if m.reachable && m.stood {
		m.stood = false
		poke(m.late)
	}
	switch {
	case before || !m.reachable:
	case m.fresh:
		m.fresh = false
		poke(m.came)
	default:
		poke(m.changed)
	}
}

// poke leaves a word for whoever reads ch; one is enough.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// stoodStill says again that the guest's clock is late.
func (m *machine) stoodStill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stood = true
}

// agentReachable tells whether the guest's agent can be asked.
func (m *machine) agentReachable() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reachable
}

// setCredentials notes what became of the credentials. Before there is a domain, nobody is told: its first state says it.
func (m *machine) setCredentials(c wire.CredentialsState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Credentials != nil && *m.state.Credentials == c || final(m.state.State) {
		return
	}
	m.state.Credentials = &c
	if m.state.State != wire.StateNone {
		m.publish(wire.Event{State: m.state})
	}
}

// since returns the events after number seen, the new number, and what to wait on for more.
func (m *machine) since(seen int) ([]wire.Event, int, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	missed := m.count - seen
	if missed > len(m.events) {
		return []wire.Event{{State: m.state}}, m.count, m.wake
	}
	return append([]wire.Event(nil), m.events[len(m.events)-missed:]...), m.count, m.wake
}

// watch sends the present state and then every event until ctx ends or send fails.
func (m *machine) watch(ctx context.Context, send func(wire.Event) error) error {
	m.mu.Lock()
	first, seen := wire.Event{State: m.state}, m.count
	m.watchers++
	m.mu.Unlock()
	defer m.leave()
	pending := []wire.Event{first}
	for {
		for _, e := range pending {
			if err := send(e); err != nil {
				return err
			}
		}
		var wake <-chan struct{}
		pending, seen, wake = m.since(seen)
		if len(pending) > 0 {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *machine) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers--
}

// watched tells whether anybody is being told of changes.
func (m *machine) watched() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.watchers > 0
}
