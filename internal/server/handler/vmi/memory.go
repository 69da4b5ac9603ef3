package vmi

import (
	"sync"

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
	// sizes are the claims' sizes that the disks were last compared with.
	sizes map[string]int64
	// run is the migration that takes the guest away.
	run *migration.Run
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

// newer picks the newer of a cached object and the one we wrote last.
func newer(cached, written *v1.VirtualMachineInstance) *v1.VirtualMachineInstance {
	if written == nil || written.UID != cached.UID {
		return cached
	}
	if order, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, written.ResourceVersion); err == nil && order < 0 {
		return written
	}
	return cached
}
