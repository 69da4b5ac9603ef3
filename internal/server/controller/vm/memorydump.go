package vm

import (
	"context"
	"fmt"
	"slices"

	v1 "kubevirt.io/api/core/v1"
)

// A memory dump goes through these phases, each of which a user sees: Associating names the claim in the VM; InProgress plugs it
// into the running instance, where virt-handler writes the memory to it; Unmounting unplugs it; then it is Completed, or Failed.
// The claim stays the VM's until it is asked to let go of it (Dissociating).

// associateDump brings the template to the request: it names the claim as long as there is a request that does not end.
func (r *Reconciler) associateDump(ctx context.Context, p *pass) error {
	request := p.vm.Status.MemoryDumpRequest
	if request == nil || p.vm.Spec.Template == nil {
		return nil
	}
	changed := p.before.DeepCopy()
	spec := &changed.Spec.Template.Spec
	has := hasVolume(spec, request.ClaimName)
	switch {
	case request.Phase == v1.MemoryDumpDissociating && has:
		dropDump(spec, request.ClaimName)
	case request.Phase == v1.MemoryDumpAssociating && !has:
		spec.Volumes = append(spec.Volumes, dumpVolume(request.ClaimName))
	default:
		return nil
	}
	if _, err := r.writer.Patch(ctx, p.before, changed); err != nil {
		return fmt.Errorf("name the memory dump's claim in the VM: %w", err)
	}
	p.hold = true // the VM's next version brings us back
	return nil
}

func dumpVolume(claim string) v1.Volume {
	source := &v1.MemoryDumpVolumeSource{}
	source.ClaimName, source.Hotpluggable = claim, true
	return v1.Volume{Name: claim, VolumeSource: v1.VolumeSource{MemoryDump: source}}
}

func dropDump(spec *v1.VirtualMachineInstanceSpec, claim string) {
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v v1.Volume) bool { return v.Name == claim && v.MemoryDump != nil })
}

// followDump moves the request on by what became of the last step.
func (r *Reconciler) followDump(p *pass) {
	request := p.vm.Status.MemoryDumpRequest
	if request == nil {
		return
	}
	lives := p.vmi != nil && p.vmi.IsRunning() && !p.going
	plugged := dumpStatus(p.vmi, request.ClaimName)
	switch request.Phase {
	case v1.MemoryDumpAssociating:
		if !lives {
			endDump(request, v1.MemoryDumpFailed, "the VM stopped before its memory was dumped")
			return
		}
		if plugged == nil {
			request.Phase = v1.MemoryDumpInProgress
		}
	case v1.MemoryDumpInProgress:
		switch {
		case !lives:
			endDump(request, v1.MemoryDumpFailed, "the VM stopped while its memory was dumped")
		case plugged != nil && (plugged.Phase == v1.MemoryDumpVolumeCompleted || plugged.Phase == v1.MemoryDumpVolumeFailed):
			request.Phase, request.Message = v1.MemoryDumpUnmounting, ""
			if plugged.Phase == v1.MemoryDumpVolumeFailed {
				request.Message = plugged.Message
			}
			if info := plugged.MemoryDumpVolume; info != nil {
				request.StartTimestamp, request.EndTimestamp = info.StartTimestamp, info.EndTimestamp
				request.FileName = &info.TargetFileName
			}
		}
	case v1.MemoryDumpUnmounting:
		switch {
		case plugged != nil && lives:
		case request.Message != "":
			request.Phase = v1.MemoryDumpFailed
		default:
			request.Phase = v1.MemoryDumpCompleted
		}
	case v1.MemoryDumpDissociating:
		if plugged == nil || !lives {
			p.vm.Status.MemoryDumpRequest = nil
		}
	}
}

func endDump(request *v1.VirtualMachineMemoryDumpRequest, phase v1.MemoryDumpPhase, message string) {
	request.Phase, request.Message = phase, message
}

func dumpStatus(vmi *v1.VirtualMachineInstance, claim string) *v1.VolumeStatus {
	if vmi == nil {
		return nil
	}
	for i := range vmi.Status.VolumeStatus {
		if v := &vmi.Status.VolumeStatus[i]; v.Name == claim && v.MemoryDumpVolume != nil {
			return v
		}
	}
	return nil
}

// updateDump plugs the claim into the running instance for the time of the dump only.
func updateDump(vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance) {
	request := vm.Status.MemoryDumpRequest
	if request != nil && request.Phase == v1.MemoryDumpInProgress {
		if !hasVolume(&vmi.Spec, request.ClaimName) {
			vmi.Spec.Volumes = append(vmi.Spec.Volumes, dumpVolume(request.ClaimName))
		}
		return
	}
	vmi.Spec.Volumes = slices.DeleteFunc(vmi.Spec.Volumes, func(v v1.Volume) bool { return v.MemoryDump != nil })
}
