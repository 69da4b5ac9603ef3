package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"

	"virtctl/internal/libvirt/agent"
	"virtctl/internal/libvirt/console"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/session"
	"virtctl/internal/libvirt/wire"
)

func (l *Launcher) handlers() wire.Handler {
	return wire.Handler{
		wire.MethodInfo:    wire.Getter(l.info),
		wire.MethodPrepare: wire.Unary(l.prepare),
		wire.MethodStart:   l.start,
		wire.MethodState:   wire.Getter(func(context.Context) (wire.State, error) { return l.machine.current(), nil }),
		wire.MethodWatch: func(ctx context.Context, call *wire.Call) error {
			return l.machine.watch(ctx, func(e wire.Event) error { return call.Reply(e) })
		},
		wire.MethodDomainXML:      wire.Unary(l.domainXML),
		wire.MethodShutdown:       wire.Action(l.shutdown),
		wire.MethodDestroy:        wire.Unary(l.destroy),
		wire.MethodQuit:           wire.Action(l.doQuit),
		wire.MethodSuspend:        wire.Unary(l.change((*session.Session).Suspend)),
		wire.MethodResume:         wire.Unary(l.change((*session.Session).Resume)),
		wire.MethodReset:          wire.Unary(l.change((*session.Session).Reset)),
		wire.MethodReboot:         wire.Action(l.reboot),
		wire.MethodAttach:         wire.Action(l.device((*session.Session).Attach)),
		wire.MethodDetach:         wire.Action(l.detach),
		wire.MethodUpdate:         wire.Action(l.device((*session.Session).Update)),
		wire.MethodResizeDisk:     wire.Action(l.resizeDisk),
		wire.MethodDump:           wire.Action(l.dump),
		wire.MethodSetVcpus:       wire.Action(l.setVcpus),
		wire.MethodConsole:        wire.File(l.openConsole),
		wire.MethodVNC:            wire.File(l.vnc),
		wire.MethodUSB:            wire.File(l.usb),
		wire.MethodPark:           l.parkStream,
		wire.MethodUnpark:         wire.File(l.unpark),
		wire.MethodScreenshot:     wire.Getter(l.screenshot),
		wire.MethodAgent:          wire.Unary(l.agentCommand),
		wire.MethodFreeze:         wire.Action(l.freeze),
		wire.MethodThaw:           wire.Action(l.thaw),
		wire.MethodGuestInfo:      wire.Getter(l.guestInfo),
		wire.MethodStats:          wire.Getter(l.stats),
		wire.MethodLibvirt:        wire.File(l.libvirtStream),
		wire.MethodMigrationPort:  wire.File(l.migrationPort),
		wire.MethodMigrate:        l.migrate,
		wire.MethodAbortMigration: wire.Action(l.abortMigration),
		wire.MethodPostCopy:       wire.Action(l.postCopy),
		wire.MethodArrival:        wire.Getter(l.arrival),
	}
}

func (l *Launcher) info(ctx context.Context) (wire.Info, error) {
	return read(ctx, l, func(s *session.Session) (wire.Info, error) {
		info := wire.Info{Version: wire.Version, LauncherVersion: l.opts.Version}
		info.LibvirtVersion, info.QEMUVersion = s.Versions()
		return info, nil
	})
}

func (l *Launcher) domainXML(ctx context.Context, r wire.DomainXMLRequest) (wire.XML, error) {
	return read(ctx, l, func(s *session.Session) (wire.XML, error) {
		xml, err := s.XML(r)
		return wire.XML{XML: xml}, err
	})
}

func (l *Launcher) shutdown(ctx context.Context, r wire.ShutdownRequest) error {
	return l.requestPowerOff(ctx, r.Agent)
}

func (l *Launcher) doQuit(context.Context, struct{}) error {
	l.quitOnce.Do(func() { close(l.quit) })
	return nil
}

// read asks libvirt something. If the daemon dies over the question, the next one is asked.
func read[R any](ctx context.Context, l *Launcher, ask func(*session.Session) (R, error)) (R, error) {
	for {
		s, err := l.manager.get(ctx)
		if err != nil {
			var none R
			return none, err
		}
		answer, err := ask(s)
		if err == nil || wire.CodeOf(err) != wire.CodeUnavailable || s.Alive() {
			return answer, err
		}
	}
}

// change makes a call of a change of state and answers with the new one.
func (l *Launcher) change(fn func(*session.Session) error) func(context.Context, struct{}) (wire.State, error) {
	return func(ctx context.Context, _ struct{}) (wire.State, error) {
		s, err := l.manager.get(ctx)
		if err != nil {
			return wire.State{}, err
		}
		if err := fn(s); err != nil {
			return wire.State{}, err
		}
		name, state, reason, err := s.State()
		if err != nil {
			return wire.State{}, err
		}
		if !final(state) {
			l.setDomain(name)
			l.machine.set(state, reason, "")
		}
		return l.machine.current(), nil
	}
}

func (l *Launcher) reboot(ctx context.Context, _ struct{}) error {
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	if l.machine.current().AgentConnected && s.Reboot(true) == nil {
		return nil
	}
	return s.Reboot(false)
}

func (l *Launcher) device(fn func(*session.Session, string) error) func(context.Context, wire.DeviceRequest) error {
	return func(ctx context.Context, r wire.DeviceRequest) error {
		s, err := l.manager.get(ctx)
		if err != nil {
			return err
		}
		return fn(s, r.XML)
	}
}

func (l *Launcher) setVcpus(ctx context.Context, r wire.SetVcpusRequest) error {
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	return s.SetVcpus(r.Count)
}

func (l *Launcher) resizeDisk(ctx context.Context, r wire.ResizeDiskRequest) error {
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	return s.ResizeDisk(r.Target, r.Bytes)
}

func (l *Launcher) dump(ctx context.Context, r wire.DumpRequest) error {
	s, err := l.manager.get(ctx)
	if err != nil {
		return err
	}
	return s.Dump(r.Path)
}

func (l *Launcher) stats(ctx context.Context) (wire.Stats, error) {
	return read(ctx, l, (*session.Session).Stats)
}

func (l *Launcher) openConsole(_ context.Context, r wire.ConsoleRequest) (*os.File, error) {
	f, err := l.console.Open(r.Replay)
	if errors.Is(err, console.ErrNotConnected) {
		return nil, &wire.Error{Code: wire.CodeNotFound, Message: "the virtual machine has no serial console that could be opened; is it running, and is autoattachSerialConsole on?"}
	}
	return f, err
}

func (l *Launcher) vnc(ctx context.Context, _ struct{}) (*os.File, error) {
	f, err := dialFile(ctx, layout.VNCSocket)
	if wire.CodeOf(err) == wire.CodeNotFound {
		return nil, &wire.Error{Code: wire.CodeNotFound, Message: "the virtual machine has no graphics device that could be opened; is it running, and is autoattachGraphicsDevice on?"}
	}
	return f, err
}

func (l *Launcher) usb(ctx context.Context, r wire.USBRequest) (*os.File, error) {
	if r.Slot < 0 || r.Slot >= layout.USBSlots {
		return nil, &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("there is no place %d for a USB device", r.Slot)}
	}
	f, err := dialFile(ctx, layout.USBSocket(r.Slot))
	if wire.CodeOf(err) == wire.CodeNotFound {
		return nil, &wire.Error{Code: wire.CodeNotFound, Message: "the virtual machine takes no USB devices of clients; was it started with clientPassthrough?"}
	}
	return f, err
}

func (l *Launcher) parkStream(_ context.Context, call *wire.Call) error {
	var r wire.ParkRequest
	if err := call.Decode(&r); err != nil {
		return err
	}
	if len(call.Files) != 1 {
		return &wire.Error{Code: wire.CodeInvalid, Message: "one stream can be parked at a time"}
	}
	if err := l.parked.Put(r.Key, call.TakeFiles()[0]); err != nil {
		return &wire.Error{Code: wire.CodeInvalid, Message: err.Error()}
	}
	return call.Reply(nil)
}

func (l *Launcher) unpark(_ context.Context, r wire.ParkRequest) (*os.File, error) {
	f, ok := l.parked.Take(r.Key)
	if !ok {
		return nil, &wire.Error{Code: wire.CodeNotFound, Message: "the stream is not kept here any more; connect again"}
	}
	return f, nil
}

func (l *Launcher) guestInfo(ctx context.Context) (wire.GuestInfo, error) {
	s, err := l.connectedAgent(ctx)
	if err != nil {
		return wire.GuestInfo{}, err
	}
	return agent.Collect(ctx, func(command string) ([]byte, error) {
		answer, err := s.Agent(command, agentTimeout)
		return []byte(answer), err
	})
}

// connectedAgent returns the session if the guest's agent is there, so that nobody waits for one that is not.
func (l *Launcher) connectedAgent(ctx context.Context) (*session.Session, error) {
	s, err := l.manager.get(ctx)
	if err != nil {
		return nil, err
	}
	switch state := l.machine.current(); {
	case state.State != wire.StateRunning:
		return nil, &wire.Error{Code: wire.CodeConflict, Message: fmt.Sprintf("the guest agent cannot answer: the domain is %s", state.State)}
	case !state.AgentConnected:
		return nil, &wire.Error{Code: wire.CodeUnavailable, Message: "the guest agent is not connected; is qemu-guest-agent installed and running in the guest?"}
	}
	return s, nil
}
