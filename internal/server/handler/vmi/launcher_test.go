package vmi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"virtctl/internal/libvirt/wire"
)

// TestMain lets the test binary play a launcher: a process with a user and a network of its own, as in a pod.
func TestMain(m *testing.M) {
	if os.Getenv(playEnv) == "" {
		os.Exit(m.Run())
	}
	if err := playLauncher(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// played is a launcher without libvirt: it does what it is told and writes down what that was.
type played struct {
	mu      sync.Mutex
	state   wire.State
	xml     string
	watches []chan wire.Event
	script  script
	quit    context.CancelFunc
	// leaving is set by quit, a moment before the launcher goes.
	leaving atomic.Bool
	aborted chan struct{}
	// ended is closed when the guest is destroyed.
	ended   chan struct{}
	endOnce sync.Once
}

// script makes the played launcher misbehave.
type script struct {
	PrepareError *wire.Error
	// IgnorePower makes the guest deaf to the power button.
	IgnorePower bool
	// MigrationFails is what a migration away fails with.
	MigrationFails string
	// HoldDump makes a memory dump last until the guest ends.
	HoldDump bool
	// Agent gives the guest an agent.
	Agent bool
	// Credentials is what became of the access credentials.
	Credentials *wire.CredentialsState
}

func playLauncher() error {
	ctx, cancel := context.WithCancel(context.Background())
	p := &played{state: wire.State{State: wire.StateNone, Since: time.Now()}, quit: cancel, aborted: make(chan struct{}, 1), ended: make(chan struct{})}
	if err := json.Unmarshal([]byte(os.Getenv(playEnv)), &p.script); err != nil {
		return err
	}
	l, err := net.Listen("unix", "launcher.sock")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if err := os.MkdirAll("migration", 0o755); err != nil {
		return err
	}
	handler := p.handler()
	maps.Copy(handler, p.migrations())
	return wire.Serve(ctx, l.(*net.UnixListener), handler)
}

func (p *played) handler() wire.Handler {
	return wire.Handler{
		wire.MethodInfo: wire.Getter(func(context.Context) (wire.Info, error) {
			if p.leaving.Load() {
				return wire.Info{}, &wire.Error{Code: wire.CodeUnavailable, Message: "the launcher was told to quit"}
			}
			return wire.Info{Version: wire.Version, LauncherVersion: "test"}, nil
		}),
		wire.MethodPrepare: wire.Unary(func(_ context.Context, r wire.PrepareRequest) (wire.PrepareResult, error) {
			if p.script.PrepareError != nil {
				return wire.PrepareResult{}, p.script.PrepareError
			}
			var result wire.PrepareResult
			for _, d := range r.Disks {
				result.Disks = append(result.Disks, wire.DiskFacts{Name: d.Name, Path: "/disks/" + d.Name, Format: "qcow2", VirtualSize: 1 << 20})
			}
			return result, nil
		}),
		wire.MethodStart: p.start,
		wire.MethodGuestInfo: wire.Getter(func(context.Context) (wire.GuestInfo, error) {
			return wire.GuestInfo{Hostname: "web", OS: wire.GuestOS{ID: "demo"}, Interfaces: []wire.GuestInterface{{Name: "enp1s0", MAC: "0a:00:00:00:00:01"}}}, nil
		}),
		wire.MethodWatch: p.watch,
		wire.MethodDomainXML: wire.Unary(func(context.Context, wire.DomainXMLRequest) (wire.XML, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.xml == "" {
				return wire.XML{XML: domainEmpty}, nil
			}
			return wire.XML{XML: p.xml}, nil
		}),
		wire.MethodShutdown: wire.Action(func(context.Context, wire.ShutdownRequest) error {
			if !p.script.IgnorePower {
				p.become(wire.StateShutoff, wire.ReasonShutdown)
			}
			return nil
		}),
		wire.MethodDestroy: wire.Getter(func(context.Context) (wire.State, error) {
			p.endOnce.Do(func() { close(p.ended) })
			return p.become(wire.StateShutoff, wire.ReasonDestroyed), nil
		}),
		wire.MethodDump: wire.Action(func(ctx context.Context, _ wire.DumpRequest) error {
			if !p.script.HoldDump {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-p.ended:
				return &wire.Error{Code: wire.CodeConflict, Message: "the guest ended while its memory was written"}
			}
		}),
		wire.MethodSuspend: wire.Getter(func(context.Context) (wire.State, error) {
			return p.become(wire.StatePaused, wire.ReasonUser), nil
		}),
		// Reset plays a crash of QEMU.
		wire.MethodReset: wire.Getter(func(context.Context) (wire.State, error) {
			return p.become(wire.StateShutoff, wire.ReasonCrashed), nil
		}),
		wire.MethodQuit: wire.Action(func(context.Context, struct{}) error {
			p.leaving.Store(true)
			time.AfterFunc(50*time.Millisecond, p.quit)
			return nil
		}),
	}
}

func (p *played) become(state wire.DomainState, reason wire.Reason) wire.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = wire.State{State: state, Reason: reason, Since: time.Now(), AgentConnected: p.script.Agent && state == wire.StateRunning, Credentials: p.script.Credentials}
	for _, w := range p.watches {
		w <- wire.Event{State: p.state}
	}
	return p.state
}

func (p *played) start(_ context.Context, call *wire.Call) error {
	var r wire.StartRequest
	if err := call.Decode(&r); err != nil {
		return err
	}
	if len(call.Files) != len(r.Sockets) {
		return &wire.Error{Code: wire.CodeInternal, Message: "descriptors got lost"}
	}
	if r.Incoming {
		return call.Reply(p.awaitGuest())
	}
	p.mu.Lock()
	running := p.state.State != wire.StateNone
	p.xml = r.XML
	p.mu.Unlock()
	if running {
		return &wire.Error{Code: wire.CodeInternal, Message: "started twice"}
	}
	if r.Paused {
		return call.Reply(p.become(wire.StatePaused, wire.ReasonUser))
	}
	return call.Reply(p.become(wire.StateRunning, wire.ReasonBooted))
}

func (p *played) watch(ctx context.Context, call *wire.Call) error {
	events := make(chan wire.Event, 16)
	p.mu.Lock()
	events <- wire.Event{State: p.state}
	p.watches = append(p.watches, events)
	p.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if err := call.Reply(e); err != nil {
				return err
			}
		}
	}
}
