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
)

// followAgent asks the guest agent now, soon and then once in a while: it has no events.
func (l *Launcher) followAgent(ctx context.Context, peer *discovery.Peer) {
	for wait := agentSoon; ; wait = agentPeriod {
		l.askAgent(ctx, peer)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (l *Launcher) askAgent(ctx context.Context, peer *discovery.Peer) {
	ask, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	info, err := peer.Client.GuestInfo(ask)
	if err != nil {
		if ctx.Err() == nil {
			l.set.log.V(1).Info("the guest agent does not answer", "vmi", l.Ref.VMI, "reason", err.Error())
		}
		return
	}
	l.mu.Lock()
	changed := ctx.Err() == nil && (l.guest == nil || !sameGuest(l.guest, &info))
	if ctx.Err() == nil {
		l.guest = &info
	}
	l.mu.Unlock()
	if changed {
		l.set.changed(l.Ref.Pod)
	}
}

// sameGuest compares what a status shows. Users, disk usage and load change all the time and are asked for when wanted.
func sameGuest(a, b *wire.GuestInfo) bool {
	return a.OS == b.OS && a.Hostname == b.Hostname && a.FSFreeze == b.FSFreeze && reflect.DeepEqual(a.Interfaces, b.Interfaces)
}
