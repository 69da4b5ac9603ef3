package launchers

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/discovery"
)

// played is a launcher that can be started, changed and killed.
type played struct {
	mu     sync.Mutex
	state  wire.State
	guest  wire.GuestInfo
	events []chan wire.Event
}

func (p *played) become(s wire.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	for _, e := range p.events {
		e <- wire.Event{State: s}
	}
}

// freeze changes what the agent says of the filesystems, and says that it has.
func (p *played) freeze(status string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guest.FSFreeze = status
	for _, e := range p.events {
		e <- wire.Event{State: p.state, Filesystems: true}
	}
}

func (p *played) serve(t *testing.T) (path string, kill func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = wire.Serve(ctx, l, wire.Handler{
			wire.MethodWatch: func(ctx context.Context, call *wire.Call) error {
				events := make(chan wire.Event, 16)
				p.mu.Lock()
				events <- wire.Event{State: p.state}
				p.events = append(p.events, events)
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
			},
			wire.MethodGuestInfo: wire.Getter(func(context.Context) (wire.GuestInfo, error) {
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.guest, nil
			}),
		})
	}()
	return path, func() { cancel(); <-done }
}

type finder struct{ wanted chan types.UID }

func (f finder) Want(pod types.UID) { f.wanted <- pod }
func (finder) Forget(types.UID)     {}

type node struct {
	set     *Set
	changed chan struct{}
	ref     Ref
	mu      sync.Mutex
	path    string
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{changed: make(chan struct{}, 1000), ref: Ref{
		Pod: types.NamespacedName{Namespace: "a", Name: "pod"}, PodUID: "p", VMI: types.NamespacedName{Namespace: "a", Name: "vm"}, VMIUID: "v",
	}}
	n.set = NewSet(t.Context(), func(context.Context, types.UID) (*discovery.Peer, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.path == "" {
			return nil, errors.New("nobody there")
		}
		return &discovery.Peer{Client: wire.Dial(n.path)}, nil
	}, logr.Discard(), func(types.NamespacedName) { n.changed <- struct{}{} })
	n.set.UseFinder(finder{wanted: make(chan types.UID, 10)})
	return n
}

func (n *node) at(path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.path = path
}

func (n *node) until(t *testing.T, what string, ok func(View) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok(n.set.Ensure(n.ref).View()) {
		select {
		case <-n.changed:
		case <-deadline:
			t.Fatalf("%s: waited too long; %+v", what, n.set.Ensure(n.ref).View())
		}
	}
}

// A launcher that cannot be reached for a moment is found again, and its last word stays meanwhile.
func TestReconnects(t *testing.T) {
	n := newNode(t)
	p := &played{state: wire.State{State: wire.StateRunning, Since: time.Unix(1, 0)}}
	path, kill := p.serve(t)
	n.set.Ensure(n.ref)
	n.set.Found(n.ref.PodUID) // before anybody listens: it is tried again
	n.at(path)
	n.until(t, "connected", func(v View) bool { return v.Peer != nil && v.State != nil })
	if _, ok := n.set.Running(n.ref.VMI); !ok {
		t.Error("a running domain is not found by its name")
	}
	n.at("")
	kill()
	n.until(t, "lost", func(v View) bool { return v.Peer == nil && v.State != nil && v.State.State == wire.StateRunning })
	if _, ok := n.set.Running(n.ref.VMI); ok {
		t.Error("calls would go to a launcher that is not there")
	}
	p.become(wire.State{State: wire.StateShutoff, Reason: wire.ReasonCrashed, Since: time.Unix(2, 0)})
	path, _ = p.serve(t)
	n.at(path)
	n.until(t, "found again", func(v View) bool { return v.Peer != nil && v.State.State == wire.StateShutoff })
}

// The agent's word is asked for when it connects, and forgotten when it goes.
func TestFollowsAgent(t *testing.T) {
	n := newNode(t)
	p := &played{state: wire.State{State: wire.StateRunning}, guest: wire.GuestInfo{Hostname: "web"}}
	path, _ := p.serve(t)
	n.at(path)
	n.set.Ensure(n.ref)
	n.set.Found(n.ref.PodUID)
	n.until(t, "connected", func(v View) bool { return v.State != nil && v.Guest == nil })
	p.become(wire.State{State: wire.StateRunning, AgentConnected: true})
	n.until(t, "agent", func(v View) bool { return v.Guest != nil && v.Guest.Hostname == "web" })
	// More often than the agent is asked without a reason while the test waits.
	for _, status := range []string{"frozen", "thawed", "frozen"} {
		p.freeze(status)
		n.until(t, status, func(v View) bool { return v.Guest != nil && v.Guest.FSFreeze == status })
	}
	p.become(wire.State{State: wire.StateRunning})
	n.until(t, "no agent", func(v View) bool { return v.Guest == nil })
}

// A pod that has ended must leave nothing behind, and its name may come again with another UID.
func TestForget(t *testing.T) {
	n := newNode(t)
	p := &played{state: wire.State{State: wire.StateRunning}}
	path, _ := p.serve(t)
	n.at(path)
	l := n.set.Ensure(n.ref)
	n.set.Found(n.ref.PodUID)
	n.until(t, "connected", func(v View) bool { return v.Peer != nil })
	n.set.Forget(n.ref.Pod)
	deadline := time.After(10 * time.Second)
	for l.View().Peer != nil {
		select {
		case <-n.changed:
		case <-deadline:
			t.Fatal("still connected")
		}
	}
	if pods := n.set.Pods(n.ref.VMIUID); len(pods) != 0 {
		t.Errorf("still there: %v", pods)
	}
	next := n.ref
	next.PodUID = "q"
	if n.set.Ensure(next) == l {
		t.Error("a new pod got the old pod's launcher")
	}
}

func TestSameGuest(t *testing.T) {
	a := wire.GuestInfo{Hostname: "a", Interfaces: []wire.GuestInterface{{Name: "eth0", IPs: []string{"10.0.0.1"}}}}
	b := a
	b.Users, b.Load = []wire.GuestUser{{Name: "root"}}, []float64{1}
	if !sameGuest(&a, &b) {
		t.Error("a login would be written to the API server")
	}
	b.Interfaces = []wire.GuestInterface{{Name: "eth0", IPs: []string{"10.0.0.2"}}}
	if sameGuest(&a, &b) {
		t.Error("a new address would be missed")
	}
}

// A volume whose attachment pod is still starting comes when that pod has its socket, not a second later.
func TestHolderIsAwaited(t *testing.T) {
	n := newNode(t)
	f := finder{wanted: make(chan types.UID, 10)}
	n.set.UseFinder(f)
	n.set.AwaitHolder("holder", n.ref.Pod)
	if got := <-f.wanted; got != "holder" {
		t.Errorf("the socket of %q is waited for", got)
	}
	n.set.Found("holder")
	select {
	case <-n.changed:
	default:
		t.Error("nobody is told that the holder is there")
	}
	n.set.AwaitHolder("another", n.ref.Pod)
	n.set.Forget(n.ref.Pod)
	n.set.Found("another")
	select {
	case <-n.changed:
		t.Error("a pod that has ended is told about its holders")
	default:
	}
}
