package launcher

import (
	"context"
	"fmt"
	"time"

	"virtctl/internal/libvirt/wire"
)

// defaultGrace applies until Start says better.
const defaultGrace = 30 * time.Second

func (l *Launcher) start(ctx context.Context, call *wire.Call) error {
	var r wire.StartRequest
	if err := call.Decode(&r); err != nil {
		return err
	}
	if len(r.Sockets) != len(call.Files) {
		return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("%d sockets named, %d came", len(r.Sockets), len(call.Files))}
	}
	l.starting.Lock()
	defer func() {
		l.starting.Unlock()
		l.events.recheck() // changes that came meanwhile were passed over
	}()
	switch now := l.machine.current(); {
	case final(now.State):
		return &wire.Error{Code: wire.CodeConflict, Message: "the domain of this pod has ended already; its virtual machine needs a new pod"}
	case now.State != wire.StateNone:
		return call.Reply(now)
	}
	l.setGrace(time.Duration(r.GracePeriodSeconds) * time.Second)
	l.keeping.Do(func() { l.keepCredentials(r.Credentials, r.Incoming) })
	if err := l.dhcp.Serve(r.DHCP, r.Sockets, call.TakeFiles()); err != nil {
		return err
	}
	l.console.SetLog(!r.DisableConsoleLog)
	if r.Incoming {
		l.machine.setIncoming()
		return call.Reply(l.machine.current())
	}
	if err := l.boot(ctx, r); err != nil {
		return err
	}
	return call.Reply(l.machine.current())
}

// boot starts QEMU with its processors stopped, so that the console is joined before the guest's first byte.
func (l *Launcher) boot(ctx context.Context, r wire.StartRequest) error {
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.Create(r.XML); err != nil {
		return err
	}
	l.connectConsole()
	if r.Paused {
		name, _, _, err := s.State()
		if err != nil {
			return err
		}
		l.setDomain(name)
		l.machine.set(wire.StatePaused, wire.ReasonUser, "")
		return nil
	}
	if err := s.Resume(); err != nil {
		_ = s.Destroy(false)
		return err
	}
	l.machine.set(wire.StateRunning, wire.ReasonBooted, "")
	if name, _, _, err := s.State(); err == nil {
		l.setDomain(name)
	}
	_, pid := l.identity()
	l.logf("started the domain in %d ms. Found PID for QEMU: %d", time.Since(began).Milliseconds(), pid)
	return nil
}

func (l *Launcher) setGrace(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grace = max(d, 0)
}

func (l *Launcher) gracePeriod() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grace
}
