package replicaset

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
)

// ledger remembers which VMIs were made and deleted for a set and are not yet seen so in the cache. VMIs of a set have random
// names, so the API server would not refuse a second creation: no count is taken until the cache has caught up.
type ledger struct {
	mu   sync.Mutex
	open map[types.NamespacedName]*entries
}

type entries struct {
	// made and gone are the UIDs the cache has to show, and to show no longer.
	made, gone map[types.UID]bool
}

func newLedger() *ledger { return &ledger{open: map[types.NamespacedName]*entries{}} }

func (l *ledger) of(set types.NamespacedName) *entries {
	e, ok := l.open[set]
	if !ok {
		e = &entries{made: map[types.UID]bool{}, gone: map[types.UID]bool{}}
		l.open[set] = e
	}
	return e
}

func (l *ledger) created(set types.NamespacedName, vmi types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(set).made[vmi] = true
}

func (l *ledger) deleted(set types.NamespacedName, vmi types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.of(set)
	e.gone[vmi] = true
	delete(e.made, vmi)
}

func (l *ledger) forget(set types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, set)
}

// settled tells whether the cache shows everything we did. When it does not yet, the VMIs' events bring the set back. A VMI
// that was made and deleted by somebody else before the cache saw it is noticed by its event, see seen.
func (l *ledger) settled(set types.NamespacedName, cached []v1.VirtualMachineInstance) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.open[set]
	if !ok {
		return true
	}
	leaving := map[types.UID]bool{}
	for i := range cached {
		delete(e.made, cached[i].UID)
		if cached[i].DeletionTimestamp == nil {
			leaving[cached[i].UID] = true
		}
	}
	for uid := range e.gone {
		if !leaving[uid] {
			delete(e.gone, uid)
		}
	}
	if len(e.made)+len(e.gone) > 0 {
		return false
	}
	delete(l.open, set)
	return true
}

// seen notes an event about a VMI: whatever it says, the cache knows of its creation.
func (l *ledger) seen(set types.NamespacedName, vmi types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.open[set]; ok {
		delete(e.made, vmi)
	}
}
