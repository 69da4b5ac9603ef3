package launcher

import (
	"context"
	"fmt"
	"time"

	"virtctl/internal/libvirt/wire"
)

// keepClock sets the guest's clock whenever the guest has stood still: no time passed for it while it was paused, was dumped or was on
// its way from another node. The guest's agent does it, as soon as it is there.
func (l *Launcher) keepClock(ctx context.Context) {
	for {
		select {
		case <-l.machine.late:
		case <-ctx.Done():
			return
		}
		if err := l.setClock(ctx); err != nil {
			l.logf("the guest stood still and its clock is late: %v", err)
			if code := wire.CodeOf(err); code == wire.CodeUnavailable || code == wire.CodeConflict {
				l.machine.stoodStill() // until the agent is there again
			}
		}
	}
}

func (l *Launcher) setClock(ctx context.Context) error {
	s, err := l.connectedAgent(ctx)
	if err != nil {
		return err
	}
	_, err = s.Agent(fmt.Sprintf(`{"execute":"guest-set-time","arguments":{"time":%d}}`, time.Now().UnixNano()), agentTimeout)
	return err
}
