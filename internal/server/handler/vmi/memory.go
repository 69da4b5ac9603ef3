package vmi

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/network"
	"virtctl/internal/server/handler/launchers"
	"virtctl/internal/server/handler/migration"
	"virtctl/internal/server/handler/status"
)

// memory is what the reconciler remembers of each pod between reconciliations. All of it can be found out again.
type memory struct {
	mu   sync.Mutex
	pods map[types.NamespacedName]*remembered
}

// remembered belongs to one pod. Reconciliations of a pod never overlap, so only the last write needs the lock.
type remembered struct {
	uid types.UID

	// plan and domain are known once a domain runs.
	plan   *network.Plan
	domain *status.Domain
	// refused is the generation of the object that can never start as it is.
	refused    int64
	refusedFor error
	asked      bool // the guest to power off
	told       bool // how the guest of an object that is going has ended
	// sizes are the claims' sizes that the disks were last compared with.
	sizes map[string]int64
	// run is the migration that takes the guest away.
	run *migration.Run
	// arrived is when the guest came from another node.
	arrived time.Time
	// dump is the memory dump that is under way or was the last.
	dump *dumping
	// missed tells that a guest that has left was reported missing.
	missed bool

	mu   sync.Mutex
	last *v1.VirtualMachineInstance
}

func (m *memory) of(ref launchers.Ref) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pods == nil {
		m.pods = map[types.NamespacedName]*remembered{}
	}
	r, ok := m.pods[ref.Pod]
	if !ok || r.uid != ref.PodUID {
		r = &remembered{uid: ref.PodUID}
		m.pods[ref.Pod] = r
	}
	return r
}

func (m *memory) forget(pod types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, pod)
}

// written is the object as our last write left it.
func (r *remembered) written() *v1.VirtualMachineInstance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *remembered) wrote(vmi *v1.VirtualMachineInstance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = vmi
}

// newest picks the newer of a cached object and the one we wrote last. What the cache has learnt of need not be remembered: were it, an
// object that is gone would look as if the cache did not know it yet.
func (r *remembered) newest(cached *v1.VirtualMachineInstance) *v1.VirtualMachineInstance {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		return cached
	}
	if r.last.UID == cached.UID {
		order, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, r.last.ResourceVersion)
		if err == nil && order < 0 {
			return r.last
		}
	}
	r.last = nil
	return cached
}
