package vm

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/instancetype"
)

// memoryStep is what memory grows by, and minMemory the least a guest must have for that (contract).
const (
	memoryStep = 2 << 20
	minMemory  = 1 << 30
)

// updateLive brings changes of the VM that a running guest can take to its VMI. What it cannot take waits for a restart, which
// checkRestart says.
func (r *Reconciler) updateLive(ctx context.Context, p *pass) error {
	if err := r.takeVolumeRequests(ctx, p); err != nil {
		return err
	}
	if err := r.associateDump(ctx, p); err != nil || p.hold {
		return err
	}
	r.followDump(p)
	if p.vmi == nil || p.going || p.vmi.IsFinal() || p.vmi.DeletionTimestamp != nil || p.vm.Spec.Template == nil {
		return nil
	}
	changed := p.vmi.DeepCopy()
	config := r.Config.Get()
	updateVolumes(config, p.before, changed)
	updateDump(p.vm, changed)
	if config.RolloutStrategy == v1.VMRolloutStrategyLiveUpdate && p.vmi.IsRunning() {
		last, now, err := r.machines(ctx, p)
		if err != nil {
			return err
		}
		if last != nil && now != nil {
			updateSpec(changed, last, now)
		}
	}
	if equality.Semantic.DeepEqual(changed.Spec, p.vmi.Spec) {
		return nil
	}
	patch := client.MergeFromWithOptions(p.vmi.DeepCopy(), client.MergeFromWithOptimisticLock{})
	switch err := r.Client.Patch(ctx, changed, patch); {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return nil // the VMI's next version brings us back
	case err != nil:
		return fmt.Errorf("bring the VM's changes to its running instance: %w", err)
	}
	p.vmi = changed
	return nil
}

// machines gives the spec that the VMI was made from and the present one, both with their instance types and preferences; nil if
// the VM has not changed since, or nobody knows what the VMI was made from.
func (r *Reconciler) machines(ctx context.Context, p *pass) (last, now *v1.VirtualMachineInstanceSpec, err error) {
	generation, known := startGeneration(p.vmi)
	if !known || generation == p.vm.Generation {
		return nil, nil, nil
	}
	spec, err := r.lastStart(ctx, p, revisionName(p.vm.UID, generation))
	if err != nil || spec == nil || spec.Template == nil {
		return nil, nil, err
	}
	if last, err = r.expand(ctx, p.vm, spec); err != nil {
		return nil, nil, err
	}
	now, err = r.expand(ctx, p.vm, &p.vm.Spec)
	return last, now, err
}

// expand applies instance type and preference to a spec of the VM. An instance type that has gone leaves nothing to compare.
func (r *Reconciler) expand(ctx context.Context, vm *v1.VirtualMachine, spec *v1.VirtualMachineSpec) (*v1.VirtualMachineInstanceSpec, error) {
	out := spec.Template.Spec.DeepCopy()
	if spec.Instancetype == nil && spec.Preference == nil {
		return out, nil
	}
	like := vm.DeepCopy()
	like.Spec = *spec
	types, err := instancetype.Resolve(ctx, r.Live, like)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := types.Attach(out, r.Config.Get()); err != nil {
		return nil, err
	}
	types.Apply(&metav1.ObjectMeta{}, out)
	return out, nil
}

// updateSpec changes what a running guest can take.
func updateSpec(vmi *v1.VirtualMachineInstance, last, now *v1.VirtualMachineInstanceSpec) {
	spec := &vmi.Spec
	// Where it may run is taken from the VM as it is: what was added while it ran is taken away again, too.
	spec.NodeSelector, spec.Affinity, spec.Tolerations = now.NodeSelector, now.Affinity, now.Tolerations
	updateLinks(spec, now)
	if busy(vmi) {
		return // one change of the machine's size at a time
	}
	if n := sockets(now); n != sockets(last) && spec.Domain.CPU != nil && n > spec.Domain.CPU.Sockets && cpuPluggable(vmi, n) {
		spec.Domain.CPU.Sockets = n
	}
	if guest := guestMemory(now); memoryPluggable(vmi, guest) && spec.Domain.Memory.Guest.Value() < guest {
		spec.Domain.Memory.Guest = now.Domain.Memory.Guest
	}
}

// busy tells that the guest's size is changing or the guest is moving.
func busy(vmi *v1.VirtualMachineInstance) bool {
	if m := vmi.Status.MigrationState; m != nil && !m.Completed && !m.Failed && m.EndTimestamp == nil {
		return true
	}
	return slices.ContainsFunc(vmi.Status.Conditions, func(c v1.VirtualMachineInstanceCondition) bool {
		return (c.Type == v1.VirtualMachineInstanceVCPUChange || c.Type == v1.VirtualMachineInstanceMemoryChange) && c.Status == corev1.ConditionTrue
	})
}

func sockets(spec *v1.VirtualMachineInstanceSpec) uint32 {
	if spec.Domain.CPU == nil {
		return 1
	}
	return max(spec.Domain.CPU.Sockets, 1)
}

func guestMemory(spec *v1.VirtualMachineInstanceSpec) int64 {
	if m := spec.Domain.Memory; m != nil && m.Guest != nil {
		return m.Guest.Value()
	}
	return 0
}

// cpuPluggable tells whether the running guest has room for so many sockets.
func cpuPluggable(vmi *v1.VirtualMachineInstance, wanted uint32) bool {
	cpu := vmi.Spec.Domain.CPU
	return vmi.Spec.Architecture != "arm64" && cpu != nil && !cpu.DedicatedCPUPlacement && wanted <= cpu.MaxSockets
}

// memoryPluggable tells whether the running guest can grow to so much memory.
func memoryPluggable(vmi *v1.VirtualMachineInstance, wanted int64) bool {
	m := vmi.Spec.Domain.Memory
	if m == nil || m.Guest == nil || m.MaxGuest == nil || wanted <= 0 || vmi.Spec.Architecture != "" && vmi.Spec.Architecture != "amd64" {
		return false
	}
	boot := m.Guest.Value()
	if s := vmi.Status.Memory; s != nil && s.GuestAtBoot != nil {
		boot = s.GuestAtBoot.Value()
	}
	return boot >= minMemory && wanted <= m.MaxGuest.Value() && wanted >= boot && (wanted-boot)%memoryStep == 0
}

// updateLinks sets the link state of interfaces that stay.
func updateLinks(spec *v1.VirtualMachineInstanceSpec, now *v1.VirtualMachineInstanceSpec) {
	for i := range spec.Domain.Devices.Interfaces {
		have := &spec.Domain.Devices.Interfaces[i]
		for _, want := range now.Domain.Devices.Interfaces {
			if want.Name == have.Name && want.State != v1.InterfaceStateAbsent && have.State != want.State {
				have.State = want.State
			}
		}
	}
}

// needsRestart tells whether a difference between the machine that runs and the one described now is left that cannot reach the
// running guest.
func needsRestart(before, now *v1.VirtualMachineInstanceSpec, vmi *v1.VirtualMachineInstance, config clusterconfig.Config) bool {
	before, now = before.DeepCopy(), now.DeepCopy()
	if pluggable(config) {
		dropPlugged(before)
		dropPlugged(now)
	}
	if config.RolloutStrategy == v1.VMRolloutStrategyLiveUpdate {
		if c := now.Domain.CPU; c != nil && before.Domain.CPU != nil && cpuPluggable(vmi, c.Sockets) && c.Sockets >= plugged(vmi) {
			before.Domain.CPU.Sockets = c.Sockets
		}
		if m := now.Domain.Memory; m != nil && m.Guest != nil && before.Domain.Memory != nil && memoryPluggable(vmi, m.Guest.Value()) &&
			m.Guest.Value() >= vmi.Spec.Domain.Memory.Guest.Value() {
			before.Domain.Memory.Guest = m.Guest
		}
		before.NodeSelector, before.Affinity, before.Tolerations = now.NodeSelector, now.Affinity, now.Tolerations
		dropLinks(before)
		dropLinks(now)
	}
	return !equality.Semantic.DeepEqual(before, now)
}

// dropLinks forgets the states of links; an interface that shall go stays told from the others.
func dropLinks(spec *v1.VirtualMachineInstanceSpec) {
	for i := range spec.Domain.Devices.Interfaces {
		if s := &spec.Domain.Devices.Interfaces[i].State; *s != v1.InterfaceStateAbsent {
			*s = ""
		}
	}
}

// plugged is how many sockets the guest has had at most: they cannot be taken away again.
func plugged(vmi *v1.VirtualMachineInstance) uint32 { return max(vmi.Spec.Domain.CPU.Sockets, 1) }
