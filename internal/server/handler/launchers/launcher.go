package launchers

import (
	"context"
	"errors"
	"sync"
	"time"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/discovery"
)

const (
	connectTimeout = 10 * time.Second
	// Waits between attempts to reach a launcher whose socket is there. It binds the name before it listens, so the first
	// attempt may be a moment early.
	firstRetry = 10 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Launcher is one pod's launcher.
type Launcher struct {
	Ref Ref

	set    *Set
	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once

	mu    sync.Mutex
	peer  *discovery.Peer
	state *wire.State
	guest *wire.GuestInfo
	// endAgent stops asking the guest agent.
	endAgent context.CancelFunc
}

func newLauncher(set *Set, ref Ref) *Launcher {
	l := &Launcher{Ref: ref, set: set}
	l.ctx, l.cancel = context.WithCancel(set.ctx)
	return l
}

// start connects, once.
func (l *Launcher) start() { l.once.Do(func() { go l.run() }) }

// run keeps a connection to the launcher until the pod is forgotten.
func (l *Launcher) run() {
	wait := firstRetry
	log := l.set.log.WithValues("pod", l.Ref.Pod, "vmi", l.Ref.VMI)
	for l.ctx.Err() == nil {
		watched, err := l.session()
		if l.ctx.Err() != nil {
			return
		}
		if watched {
			wait = firstRetry
		}
		if !errors.Is(err, wire.ErrClosed) && wait > time.Second {
			log.Error(err, "cannot reach the launcher; trying again", "in", wait)
		}
		select {
		case <-l.ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRetry)
	}
}

// session connects and follows the launcher's events until the connection ends.
func (l *Launcher) session() (watched bool, err error) {
	ctx, cancel := context.WithTimeout(l.ctx, connectTimeout)
	peer, err := l.set.connect(ctx, l.Ref.PodUID)
	cancel()
	if err != nil {
		return false, err
	}
	defer l.lost(peer)
	err = peer.Client.Watch(l.ctx, func(e wire.Event) error {
		watched = true
		l.event(peer, e)
		return nil
	})
	return watched, err
}

func (l *Launcher) event(peer *discovery.Peer, e wire.Event) {
	l.mu.Lock()
	state := e.State
	l.peer, l.state = peer, &state
	connected := state.AgentConnected && (state.State == wire.StateRunning || state.State == wire.StatePaused)
	switch {
	case connected && l.endAgent == nil:
		ctx, cancel := context.WithCancel(l.ctx)
		l.endAgent = cancel
		go l.followAgent(ctx, peer)
	case !connected:
		l.stopAgent()
	}
	l.mu.Unlock()
	l.set.changed(l.Ref.Pod)
}

// stopAgent is called with the lock held.
func (l *Launcher) stopAgent() {
	if l.endAgent != nil {
		l.endAgent()
	}
	l.endAgent, l.guest = nil, nil
}

// lost forgets the connection. What the launcher said last stays: an end that was reported is an end.
func (l *Launcher) lost(peer *discovery.Peer) {
	l.mu.Lock()
	l.stopAgent()
	if l.peer == peer {
		l.peer = nil
	}
	l.mu.Unlock()
	peer.Close()
	l.set.changed(l.Ref.Pod)
}

// View is what is known about a launcher at one moment.
type View struct {
	// Peer is nil while there is no connection.
	Peer *discovery.Peer
	// State is nil until the launcher has said it.
	State *wire.State
	Guest *wire.GuestInfo
}

// View returns what is known now.
func (l *Launcher) View() View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return View{Peer: l.peer, State: l.state, Guest: l.guest}
}

// Learn takes a state that a call returned, so that a reconciliation need not wait for the event that says the same.
func (l *Launcher) Learn(state wire.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == nil || l.state.Since.Before(state.Since) {
		l.state = &state
	}
}

func (l *Launcher) runs() bool {
	v := l.View()
	return v.Peer != nil && v.State != nil && (v.State.State == wire.StateRunning || v.State.State == wire.StatePaused ||
		v.State.State == wire.StateShutdown)
}
