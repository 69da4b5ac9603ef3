package launchers

import (
	"context"
	"reflect"
	"time"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/discovery"
)

const (
	agentTimeout = 15 * time.Second
	// A guest's addresses often come a few seconds after its agent.
	agentSoon   = 5 * time.Second
	agentPeriod = 60 * time.Second
	// agentFarewell is how long an agent is still shown after it has left.
	agentFarewell = 3 * time.Second
)

// agent is what is known of a guest's agent.
type agent struct {
	// end stops asking it; nil while it is not connected.
	end context.CancelFunc
	// again asks it before its time.
	again chan struct{}
	// leaving forgets it after a while.
	leaving *time.Timer
	shown   bool
	guest   *wire.GuestInfo
}

// followAgent notes whether the agent is connected. It is called with the lock held. That an agent has come shows only together
// with what it says, and that it has gone only after a while: a guest that powers off loses its agent a moment before it ends,
// and that is one change, not two.
func (l *Launcher) followAgent(peer *discovery.Peer, connected bool) {
	a := &l.agent
	switch {
	case connected && a.end == nil:
		if a.leaving != nil {
			a.leaving.Stop()
			a.leaving = nil
		}
		ctx, cancel := context.WithCancel(l.ctx)
		a.end, a.again = cancel, make(chan struct{}, 1)
		go l.askAgain(ctx, peer, a.again)
	case !connected && a.end != nil:
		a.end()
		a.end = nil
		a.leaving = time.AfterFunc(agentFarewell, l.agentLeft)
	}
}

func (l *Launcher) agentLeft() {
	l.mu.Lock()
	left := l.agent.end == nil
	if left {
		l.agent.shown, l.agent.guest = false, nil
	}
	l.mu.Unlock()
	if left {
		l.set.tell(l.Ref.Pod)
	}
}

// askAgain asks the guest agent now, soon, when something was done through it, and else once in a while: it has no events.
func (l *Launcher) askAgain(ctx context.Context, peer *discovery.Peer, again <-chan struct{}) {
	for wait := agentSoon; ; wait = agentPeriod {
		l.askAgent(ctx, peer)
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-time.After(wait):
		}
	}
}

func (l *Launcher) askAgent(ctx context.Context, peer *discovery.Peer) {
	ask, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	info, err := peer.Client.GuestInfo(ask)
	if err != nil && ctx.Err() == nil {
		l.set.log.V(1).Info("the guest agent does not answer", "vmi", l.Ref.VMI, "reason", err.Error())
	}
	l.mu.Lock()
	changed := false
	if ctx.Err() == nil {
		changed = !l.agent.shown
		l.agent.shown = true
		if err == nil {
			changed = changed || l.agent.guest == nil || !sameGuest(l.agent.guest, &info)
			l.agent.guest = &info
		}
	}
	l.mu.Unlock()
	if changed {
		l.set.tell(l.Ref.Pod)
	}
}

// sameGuest compares what a status shows. Users, disk usage and load change all the time and are asked for when wanted.
func sameGuest(a, b *wire.GuestInfo) bool {
	return a.OS == b.OS && a.Hostname == b.Hostname && a.FSFreeze == b.FSFreeze && reflect.DeepEqual(a.Interfaces, b.Interfaces)
}
