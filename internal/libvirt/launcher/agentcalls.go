package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"virtctl/internal/libvirt/session"
	"virtctl/internal/libvirt/wire"
)

const (
	// agentTimeout is how long an agent command may take when the caller does not say, in seconds.
	agentTimeout    = 5
	maxAgentTimeout = 300
	// maxAgentCommand and maxAgentAnswer bound what goes to the guest and what comes back, in bytes. An agent answers a file
	// read with up to 64 KiB of base64; a list of a thousand interfaces has about 300 KiB.
	maxAgentCommand = 1 << 20
	maxAgentAnswer  = 4 << 20
)

func (l *Launcher) agentCommand(ctx context.Context, r wire.AgentRequest) (wire.Blob, error) {
	if len(r.Command) > maxAgentCommand || !json.Valid([]byte(r.Command)) {
		return wire.Blob{}, &wire.Error{Code: wire.CodeInvalid, Message: "the guest agent command is not JSON or too long"}
	}
	s, err := l.connectedAgent(ctx)
	if err != nil {
		return wire.Blob{}, err
	}
	timeout := agentTimeout
	if r.TimeoutSeconds > 0 {
		timeout = min(r.TimeoutSeconds, maxAgentTimeout)
	}
	answer, err := s.Agent(r.Command, timeout)
	if err != nil {
		return wire.Blob{}, err
	}
	if len(answer) > maxAgentAnswer {
		return wire.Blob{}, &wire.Error{Code: wire.CodeInternal, Message: fmt.Sprintf("the guest agent answered with more than %d MiB", maxAgentAnswer>>20)}
	}
	return wire.Blob{MediaType: "application/json", Data: []byte(answer)}, nil
}

// freeze thaws by itself after the timeout: whoever froze the guest may have died.
func (l *Launcher) freeze(ctx context.Context, r wire.FreezeRequest) error {
	s, err := l.connectedAgent(ctx)
	if err != nil {
		return err
	}
	if err := s.Freeze(); err != nil {
		return err
	}
	l.machine.filesystems()
	l.thaws.arm(time.Duration(r.TimeoutSeconds)*time.Second, func() {
		l.logf("thawing the guest's filesystems: nobody did within %d s", r.TimeoutSeconds)
		if s := l.manager.peek(); s != nil {
			if err := s.Thaw(); err != nil {
				l.logf("%v", err)
			}
			l.machine.filesystems()
		}
	})
	return nil
}

func (l *Launcher) thaw(ctx context.Context, _ struct{}) error {
	l.thaws.arm(0, nil)
	s, err := l.connectedAgent(ctx)
	if err != nil {
		return err
	}
	if err := s.Thaw(); err != nil {
		return err
	}
	l.machine.filesystems()
	return nil
}

// detach returns when the guest has released the device. The event can come before the call that asked for it returns.
func (l *Launcher) detach(ctx context.Context, r wire.DeviceRequest) error {
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	alias := deviceAlias(r.XML)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	released := make(chan struct{})
	subscribed := make(chan struct{})
	go func() {
		first := true
		_ = l.machine.watch(ctx, func(e wire.Event) error {
			if first {
				first = false
				close(subscribed)
			}
			if alias != "" && e.DeviceRemoved == alias || final(e.State.State) {
				close(released)
				return context.Canceled
			}
			return nil
		})
	}()
	<-subscribed
	if err := s.Detach(r.XML); err != nil {
		return err
	}
	if alias == "" || !deviceExists(s, alias) {
		return nil
	}
	select {
	case <-released:
		return nil
	case <-ctx.Done():
		return &wire.Error{Code: wire.CodeUnavailable, Message: "the guest has not released the device yet; it may be in use in the guest"}
	}
}

func deviceExists(s *session.Session, alias string) bool {
	xml, err := s.XML(wire.DomainXMLRequest{})
	return err != nil || hasAlias(xml, alias)
}
