package subresource

import (
	"fmt"
	"slices"

	k8sv1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "kubevirt.io/api/core/v1"
)

// dumpOverhead is what a memory dump takes beside the guest's memory (contract).
const dumpOverhead = 100 << 20

// memoryDump asks for the guest's memory to be written to a claim.
func (s *Server) memoryDump(r *request) error {
	if err := s.hotplugOn(); err != nil {
		return err
	}
	dump := &v1.VirtualMachineMemoryDumpRequest{}
	if err := options(r, dump); err != nil {
		return err
	}
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	// Another dump of the same VM goes to the claim that it has.
	if known := vm.Status.MemoryDumpRequest; known != nil && dump.ClaimName == "" {
		dump.ClaimName = known.ClaimName
	}
	if dump.ClaimName == "" {
		return apierrors.NewBadRequest("Memory dump requires claim name to be set")
	}
	vmi, err := s.findVMI(r.Context(), r.key())
	if err != nil {
		return err
	}
	if vmi == nil || vmi.Status.Phase != v1.Running {
		return vmConflict(vm.Name, vmiNotRunning)
	}
	if err := s.dumpFits(r, vmi, dump.ClaimName); err != nil {
		return err
	}
	known := vm.Status.MemoryDumpRequest
	switch {
	case known == nil:
	case known.ClaimName != dump.ClaimName:
		return vmConflict(vm.Name, "unable to add memory dump, vm is already associated with different memory dump pvc")
	case !slices.Contains([]v1.MemoryDumpPhase{v1.MemoryDumpCompleted, v1.MemoryDumpFailed}, known.Phase):
		return vmConflict(vm.Name, "memory dump request for vm [%s] is already in progress", vm.Name)
	}
	p := patch{}
	p.test("/status/memoryDumpRequest", known)
	p.add("/status/memoryDumpRequest", v1.VirtualMachineMemoryDumpRequest{
		ClaimName: dump.ClaimName, FileName: dump.FileName, Phase: v1.MemoryDumpAssociating,
	})
	if err := s.patchStatus(r.Context(), vm, p, nil); err != nil {
		return err
	}
	return accepted(r)
}

// dumpFits refuses a claim that cannot take the dump, before the guest stops for it.
func (s *Server) dumpFits(r *request, vmi *v1.VirtualMachineInstance, name string) error {
	pvc := &k8sv1.PersistentVolumeClaim{}
	err := s.Client.Get(r.Context(), client.ObjectKey{Namespace: r.namespace, Name: name}, pvc)
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(k8sv1.Resource("persistentvolumeclaim"), name)
	}
	if err != nil {
		return fmt.Errorf("get claim %s/%s: %w", r.namespace, name, err)
	}
	if m := pvc.Spec.VolumeMode; m != nil && *m == k8sv1.PersistentVolumeBlock {
		return vmConflict(vmi.Name, "pvc %s should be filesystem pvc", name)
	}
	if len(pvc.Spec.AccessModes) == 1 && pvc.Spec.AccessModes[0] == k8sv1.ReadOnlyMany {
		return vmConflict(vmi.Name, "pvc %s should not be read only", name)
	}
	size := pvc.Spec.Resources.Requests[k8sv1.ResourceStorage]
	if c, ok := pvc.Status.Capacity[k8sv1.ResourceStorage]; ok {
		size = c
	}
	need := guestBytes(vmi) + dumpOverhead
	if size.Value() < need {
		return vmConflict(vmi.Name, "pvc %s size should be bigger then the memory dump: it has %s and needs %s", name,
			size.String(), resource.NewQuantity(need, resource.BinarySI))
	}
	return nil
}

func guestBytes(vmi *v1.VirtualMachineInstance) int64 {
	if s := vmi.Status.Memory; s != nil && s.GuestCurrent != nil {
		return s.GuestCurrent.Value()
	}
	if m := vmi.Spec.Domain.Memory; m != nil && m.Guest != nil {
		return m.Guest.Value()
	}
	return vmi.Spec.Domain.Resources.Requests.Memory().Value()
}

// removeMemoryDump lets go of the claim.
func (s *Server) removeMemoryDump(r *request) error {
	if err := s.hotplugOn(); err != nil {
		return err
	}
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	known := vm.Status.MemoryDumpRequest
	switch {
	case known == nil:
		return vmConflict(vm.Name, "no memory dump request found")
	case known.Remove:
		return vmConflict(vm.Name, "memory dump remove request for vm [%s] already exists", vm.Name)
	}
	next := known.DeepCopy()
	next.Phase, next.Remove = v1.MemoryDumpDissociating, true
	p := patch{}
	p.test("/status/memoryDumpRequest", known)
	p.add("/status/memoryDumpRequest", next)
	if err := s.patchStatus(r.Context(), vm, p, nil); err != nil {
		return err
	}
	return accepted(r)
}
