package launchers

import (
	"context"
	"errors"
	"io/fs"
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

	mu sync.Mutex
	// seeking tells that run is at work; it rests while there is no socket.
	seeking bool
	peer    *discovery.Peer
	state   *wire.State
	agent   agent
}

func newLauncher(set *Set, ref Ref) *Launcher {
	l := &Launcher{Ref: ref, set: set}
	l.ctx, l.cancel = context.WithCancel(set.ctx)
	return l
}

// start connects, unless it is about to.
func (l *Launcher) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seeking {
		l.seeking = true
		go l.run()
	}
}

// run keeps a connection to the launcher as long as there is a socket and the pod is not forgotten.
func (l *Launcher) run() {
	wait := firstRetry
	log := l.set.log.WithValues("pod", l.Ref.Pod, "vmi", l.Ref.VMI)
	for {
		watched, err := l.session()
		if l.ctx.Err() != nil {
			return
		}
		if errors.Is(err, fs.ErrNotExist) {
			l.rest()
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
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRetry)
	}
}

// rest waits for the socket to appear again; when a launcher has ended, it does not.
func (l *Launcher) rest() {
	l.mu.Lock()
	l.seeking = false
	l.mu.Unlock()
	l.set.finder.Want(l.Ref.PodUID)
	if l.ctx.Err() != nil {
		l.set.finder.Forget(l.Ref.PodUID) // the pod was forgotten meanwhile
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
	l.followAgent(peer, connected)
	if e.Filesystems {
		select {
		case l.agent.again <- struct{}{}:
		default: // it is about to be asked, or not connected
		}
	}
	l.mu.Unlock()
	l.set.tell(l.Ref.Pod)
}

// lost forgets the connection. What the launcher said last stays: an end that was reported is an end.
func (l *Launcher) lost(peer *discovery.Peer) {
	l.mu.Lock()
	l.followAgent(peer, false)
	if l.peer == peer {
		l.peer = nil
	}
	l.mu.Unlock()
	peer.Close()
	l.set.tell(l.Ref.Pod)
}

// View is what is known about a launcher at one moment.
type View struct {
	// Peer is nil while there is no connection.
	Peer *discovery.Peer
	// State is nil until the launcher has said it.
	State *wire.State
	// Agent tells that the guest's agent has been there for a moment, or has left only just now; Guest is what it says.
	Agent bool
	Guest *wire.GuestInfo
}

// View returns what is known now.
func (l *Launcher) View() View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return View{Peer: l.peer, State: l.state, Agent: l.agent.shown, Guest: l.agent.guest}
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
