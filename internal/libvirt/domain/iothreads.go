package domain

import (
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
)

// maxIOThreads bounds a supplemental pool.
const maxIOThreads = 256

// ioThreads hands out iothreads: ids 1 to shared go round among ordinary disks, the ids after that are each one disk's own.
type ioThreads struct {
	shared, dedicated uint
	nextShared        uint
	nextDedicated     uint
	// pool makes every virtio disk use all shared threads at once.
	pool bool
}

func (t *ioThreads) total() uint { return t.shared + t.dedicated }

func (b *builder) ioThreads() error {
	var ordinary, dedicated uint
	for i := range b.spec.Devices.Disks {
		switch {
		case isTrue(b.spec.Devices.Disks[i].DedicatedIOThread):
			dedicated++
		default:
			ordinary++
		}
	}
	threads := ioThreads{dedicated: dedicated}
	switch {
	case b.spec.IOThreadsPolicy == nil && dedicated == 0:
		return nil
	case b.spec.IOThreadsPolicy == nil || *b.spec.IOThreadsPolicy == v1.IOThreadsPolicyShared:
		threads.shared = 1
	case *b.spec.IOThreadsPolicy == v1.IOThreadsPolicyAuto:
		// Twice as many threads as processors is the most that helps (contract).
		limit := 2 * b.vcpus
		threads.shared = ordinary
		if ordinary+dedicated > limit {
			threads.shared = limit - min(dedicated, limit)
		}
		threads.shared = max(threads.shared, 1)
	case *b.spec.IOThreadsPolicy == v1.IOThreadsPolicySupplementalPool:
		pool := b.spec.IOThreads
		at := domainPath().Child("ioThreads", "supplementalPoolThreadCount")
		if pool == nil || pool.SupplementalPoolThreadCount == nil || *pool.SupplementalPoolThreadCount == 0 {
			return invalid(at, "must be greater than zero for ioThreadsPolicy supplementalPool")
		}
		if *pool.SupplementalPoolThreadCount > maxIOThreads {
			return invalid(at, "must be at most %d", maxIOThreads)
		}
		threads.shared, threads.dedicated, threads.pool = uint(*pool.SupplementalPoolThreadCount), 0, true
	default:
		return invalid(domainPath().Child("ioThreadsPolicy"), "%q is not one of shared, auto, supplementalPool", *b.spec.IOThreadsPolicy)
	}
	threads.nextShared, threads.nextDedicated = 1, threads.shared+1
	b.threads = threads
	b.dom.IOThreads = threads.total()
	b.pinIOThreads()
	return nil
}

// assign gives a virtio disk its thread or threads.
func (t *ioThreads) assign(driver *libvirtxml.DomainDiskDriver, dedicated bool, vcpus uint) {
	switch {
	case t.total() == 0:
	case t.pool:
		list := &libvirtxml.DomainDiskIOThreads{}
		for id := uint(1); id <= t.shared; id++ {
			list.IOThread = append(list.IOThread, libvirtxml.DomainDiskIOThread{ID: id})
		}
		driver.IOThreads = list
		driver.Queues = uintPtr(max(vcpus, t.shared))
	case dedicated && t.nextDedicated <= t.total():
		driver.IOThread = uintPtr(t.nextDedicated)
		t.nextDedicated++
	default:
		driver.IOThread = uintPtr(t.nextShared)
		t.nextShared = t.nextShared%t.shared + 1
	}
}
