package launcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"virtctl/internal/libvirt/session"
	"virtctl/internal/libvirt/wire"
)

const (
	// pressAgain is after how long a guest that has not powered off is asked again: one that was still booting the first time
	// has missed the power button, and nothing tells when it would listen.
	pressAgain = 5 * time.Second
	// destroyPatience is how long QEMU may take to end after it was told to by force.
	destroyPatience = 10 * time.Second
	// handlerPatience is how long a watching handler is given to say quit after the domain's end when the pod is ending anyway.
	handlerPatience = 5 * time.Second
)

// powerOff makes one asking at a time.
type powerOff struct {
	mu     sync.Mutex
	asking bool
}

// requestPowerOff asks the guest to power off, once now, whose error it returns, and again until it has.
func (l *Launcher) requestPowerOff(ctx context.Context, agent bool) error {
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	if err := l.askGuest(s, agent); err != nil {
		return err
	}
	l.power.mu.Lock()
	defer l.power.mu.Unlock()
	if !l.power.asking {
		l.power.asking = true
		go l.keepAsking()
	}
	return nil
}

func (l *Launcher) keepAsking() {
	ticker := time.NewTicker(pressAgain)
	defer ticker.Stop()
	for {
		select {
		case <-l.machine.ended:
			return
		case <-l.ctx.Done():
			return
		case <-ticker.C:
		}
		if l.machine.current().State == wire.StateShutdown {
			continue // it is on its way
		}
		if s := l.manager.peek(); s != nil {
			_ = l.askGuest(s, l.machine.current().AgentConnected)
		}
	}
}

// askGuest prefers the agent when told to; a hung agent must not keep the power button from being pressed.
func (l *Launcher) askGuest(s *session.Session, agent bool) error {
	if agent && s.AgentPowerOff() == nil {
		return nil
	}
	return s.PressPowerButton()
}

// terminate ends the guest within its grace period, because the pod is being ended.
func (l *Launcher) terminate(failed <-chan error) {
	grace := l.gracePeriod()
	ctx, cancel := context.WithTimeout(l.ctx, max(grace, time.Millisecond))
	defer cancel()
	now := l.machine.current()
	stopped := now.State == wire.StatePaused && (now.Reason == wire.ReasonUser || now.Reason == wire.ReasonIOError)
	if grace > 0 && !stopped && !final(now.State) {
		l.logf("told to end: asking the guest to power off, it has %s", grace)
		if err := l.requestPowerOff(ctx, now.AgentConnected); err != nil {
			l.logf("%v", err)
			if wire.CodeOf(err) != wire.CodeUnavailable {
				cancel()
			}
		}
		select {
		case <-l.machine.ended:
		case <-l.quit:
		case err := <-failed:
			l.logf("%v", err)
		case <-ctx.Done():
		}
	}
	l.endGuest()
	l.awaitHandler()
}

// awaitHandler gives a handler that watches the time to note the end and to say quit.
func (l *Launcher) awaitHandler() {
	if !l.machine.watched() {
		return
	}
	timer := time.NewTimer(handlerPatience)
	defer timer.Stop()
	select {
	case <-l.quit:
	case <-timer.C:
	}
}

// endGuest makes sure that no QEMU is left.
func (l *Launcher) endGuest() {
	now := l.machine.current().State
	if final(now) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), destroyPatience)
	defer cancel()
	if err := l.destroyDomain(ctx); err != nil && wire.CodeOf(err) != wire.CodeNotFound {
		l.logf("%v", err)
	}
	if now == wire.StateNone {
		return
	}
	select {
	case <-l.machine.ended:
		return
	case <-ctx.Done():
	}
	if _, pid := l.identity(); pid > 1 {
		l.logf("QEMU did not end, killing it")
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			l.logf("%v", err)
		}
	}
	l.machine.set(wire.StateShutoff, wire.ReasonDestroyed, "")
}

// destroyDomain ends QEMU: first with SIGTERM, then by force.
func (l *Launcher) destroyDomain(ctx context.Context) error {
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	err = s.Destroy(true)
	if err != nil && wire.CodeOf(err) != wire.CodeNotFound {
		err = s.Destroy(false)
	}
	return err
}

func (l *Launcher) destroy(ctx context.Context, _ struct{}) (wire.State, error) {
	err := l.destroyDomain(ctx)
	if err != nil && (wire.CodeOf(err) != wire.CodeNotFound || !final(l.machine.current().State)) {
		return wire.State{}, err
	}
	select {
	case <-l.machine.ended:
		return l.machine.current(), nil
	case <-ctx.Done():
		return wire.State{}, &wire.Error{Code: wire.CodeUnavailable, Message: fmt.Sprintf("the domain has not ended yet: %v", ctx.Err())}
	}
}
