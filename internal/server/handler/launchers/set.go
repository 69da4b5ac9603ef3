// Package launchers keeps the connections to the launchers of this node's pods and what they say about their domains.
package launchers

import (
	"context"
	"sync"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/server/handler/discovery"
)

// Finder waits for launchers' sockets.
type Finder interface {
	Want(pod types.UID)
	Forget(pod types.UID)
}

// ConnectFunc connects to a pod's launcher.
type ConnectFunc func(ctx context.Context, pod types.UID) (*discovery.Peer, error)

// Ref names a pod and the VirtualMachineInstance that it belongs to.
type Ref struct {
	Pod    types.NamespacedName
	PodUID types.UID
	VMI    types.NamespacedName
	VMIUID types.UID
}

// Set is the launchers of this node.
type Set struct {
	ctx     context.Context
	connect ConnectFunc
	changed func(pod types.NamespacedName)
	log     logr.Logger

	mu     sync.Mutex
	finder Finder
	byPod  map[types.UID]*Launcher
	news   chan struct{} // closed at the next change; nil while nobody waits for one
	// holders are the pods whose sockets launchers wait for.
	holders map[types.UID]types.NamespacedName
}

// NewSet returns an empty set whose connections end with ctx. changed is called when something about a launcher has changed; it
// must return quickly. UseFinder must follow before the first Ensure.
func NewSet(ctx context.Context, connect ConnectFunc, log logr.Logger, changed func(pod types.NamespacedName)) *Set {
	return &Set{ctx: ctx, connect: connect, changed: changed, log: log, byPod: map[types.UID]*Launcher{}, holders: map[types.UID]types.NamespacedName{}}
}

// UseFinder names who calls Found.
func (s *Set) UseFinder(f Finder) { s.finder = f }

// Found tells that a pod's socket is there.
func (s *Set) Found(pod types.UID) {
	s.mu.Lock()
	l := s.byPod[pod]
	launcher, awaited := s.holders[pod]
	delete(s.holders, pod)
	s.mu.Unlock()
	if l != nil {
		l.start()
	}
	if awaited {
		s.changed(launcher)
	}
}

// AwaitHolder calls changed for a launcher's pod once the pod that holds a volume for it has its socket.
func (s *Set) AwaitHolder(holder types.UID, launcher types.NamespacedName) {
	s.mu.Lock()
	s.holders[holder] = launcher
	s.mu.Unlock()
	s.finder.Want(holder)
}

// Ensure returns the launcher of a pod, and starts looking for it the first time.
func (s *Set) Ensure(ref Ref) *Launcher {
	s.mu.Lock()
	l, ok := s.byPod[ref.PodUID]
	if !ok {
		l = newLauncher(s, ref)
		s.byPod[ref.PodUID] = l
	}
	s.mu.Unlock()
	if !ok {
		s.finder.Want(ref.PodUID)
	}
	return l
}

// Forget drops the launchers of a pod that has ended.
func (s *Set) Forget(pod types.NamespacedName) {
	s.mu.Lock()
	var gone []*Launcher
	for uid, l := range s.byPod {
		if l.Ref.Pod == pod {
			gone = append(gone, l)
			delete(s.byPod, uid)
		}
	}
	var holders []types.UID
	for uid, launcher := range s.holders {
		if launcher == pod {
			holders = append(holders, uid)
			delete(s.holders, uid)
		}
	}
	s.mu.Unlock()
	for _, uid := range holders {
		s.finder.Forget(uid)
	}
	for _, l := range gone {
		s.finder.Forget(l.Ref.PodUID)
		l.cancel()
	}
}

// Pods gives the pods of a VirtualMachineInstance on this node.
func (s *Set) Pods(vmi types.UID) []types.NamespacedName {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pods []types.NamespacedName
	for _, l := range s.byPod {
		if l.Ref.VMIUID == vmi {
			pods = append(pods, l.Ref.Pod)
		}
	}
	return pods
}

// Running gives the launcher that runs the VirtualMachineInstance of that name.
func (s *Set) Running(vmi types.NamespacedName) (*Launcher, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.byPod {
		if l.Ref.VMI == vmi && l.runs() {
			return l, true
		}
	}
	return nil, false
}

// Await gives the launcher that runs the VirtualMachineInstance of that name and answers, waiting for it until ctx ends.
func (s *Set) Await(ctx context.Context, vmi types.NamespacedName) (*Launcher, bool) {
	for {
		s.mu.Lock()
		if s.news == nil {
			s.news = make(chan struct{})
		}
		news := s.news
		s.mu.Unlock()
		if l, ok := s.Running(vmi); ok {
			return l, true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// tell passes a change on.
func (s *Set) tell(pod types.NamespacedName) {
	s.mu.Lock()
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
	s.mu.Unlock()
	s.changed(pod)
}

// Each calls fn for every launcher whose domain runs.
func (s *Set) Each(fn func(*Launcher)) {
	s.mu.Lock()
	list := make([]*Launcher, 0, len(s.byPod))
	for _, l := range s.byPod {
		if l.runs() {
			list = append(list, l)
		}
	}
	s.mu.Unlock()
	for _, l := range list {
		fn(l)
	}
}
