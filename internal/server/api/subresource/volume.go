package subresource

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/claims"
	"virtctl/internal/clusterconfig"
)

const hotplugOff = "Enable DeclarativeHotplugVolumes or HotplugVolumes feature gate to use this API."

func (s *Server) vmAddVolume(r *request) error {
	opts, err := s.addVolumeOptions(r)
	if err != nil {
		return err
	}
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	if s.Config.Get().Gate(clusterconfig.GateHotplugVolumes) {
		err = s.queueVolume(r, vm, v1.VirtualMachineVolumeRequest{AddVolumeOptions: opts}, opts.DryRun)
	} else {
		err = s.plug(r, vm, opts)
	}
	if err != nil {
		return err
	}
	return accepted(r)
}

func (s *Server) plug(r *request, vm *v1.VirtualMachine, opts *v1.AddVolumeOptions) error {
	if vm.Spec.Template == nil {
		return vmConflict(vm.Name, "VM has no template")
	}
	spec := &vm.Spec.Template.Spec
	if err := addable(spec, opts, vm.Name); err != nil {
		return err
	}
	return s.patchObject(r.Context(), vm, addVolumePatch("/spec/template/spec", spec, opts), opts.DryRun)
}

func (s *Server) vmiAddVolume(r *request) error {
	opts, err := s.addVolumeOptions(r)
	if err != nil {
		return err
	}
	vmi, err := s.pluggable(r)
	if err != nil {
		return err
	}
	if err := addable(&vmi.Spec, opts, vmi.Name); err != nil {
		return err
	}
	if err := s.patchObject(r.Context(), vmi, addVolumePatch("/spec", &vmi.Spec, opts), opts.DryRun); err != nil {
		return err
	}
	return accepted(r)
}

func (s *Server) vmRemoveVolume(r *request) error {
	opts, err := s.removeVolumeOptions(r)
	if err != nil {
		return err
	}
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	if s.Config.Get().Gate(clusterconfig.GateHotplugVolumes) {
		err = s.queueVolume(r, vm, v1.VirtualMachineVolumeRequest{RemoveVolumeOptions: opts}, opts.DryRun)
	} else {
		err = s.unplug(r, vm, opts)
	}
	if err != nil {
		return err
	}
	return accepted(r)
}

func (s *Server) unplug(r *request, vm *v1.VirtualMachine, opts *v1.RemoveVolumeOptions) error {
	if vm.Spec.Template == nil {
		return vmConflict(vm.Name, "VM has no template")
	}
	spec := &vm.Spec.Template.Spec
	if err := removable(spec, opts.Name, vm.Name); err != nil {
		return err
	}
	return s.patchObject(r.Context(), vm, removeVolumePatch("/spec/template/spec", spec, opts.Name), opts.DryRun)
}

func (s *Server) vmiRemoveVolume(r *request) error {
	opts, err := s.removeVolumeOptions(r)
	if err != nil {
		return err
	}
	vmi, err := s.pluggable(r)
	if err != nil {
		return err
	}
	if err := removable(&vmi.Spec, opts.Name, vmi.Name); err != nil {
		return err
	}
	if err := s.patchObject(r.Context(), vmi, removeVolumePatch("/spec", &vmi.Spec, opts.Name), opts.DryRun); err != nil {
		return err
	}
	return accepted(r)
}

func (s *Server) hotplugOn() error {
	c := s.Config.Get()
	if !c.Gate(clusterconfig.GateDeclarativeHotplugVolumes) && !c.Gate(clusterconfig.GateHotplugVolumes) {
		return apierrors.NewBadRequest(hotplugOff)
	}
	return nil
}

func (s *Server) addVolumeOptions(r *request) (*v1.AddVolumeOptions, error) {
	if err := s.hotplugOn(); err != nil {
		return nil, err
	}
	opts := &v1.AddVolumeOptions{}
	if err := options(r, opts); err != nil {
		return nil, err
	}
	switch {
	case opts.Name == "":
		return nil, apierrors.NewBadRequest("AddVolumeOptions requires name to be set")
	case opts.Disk == nil:
		return nil, apierrors.NewBadRequest("AddVolumeOptions requires disk to not be nil")
	case opts.VolumeSource == nil || (opts.VolumeSource.DataVolume == nil) == (opts.VolumeSource.PersistentVolumeClaim == nil):
		return nil, apierrors.NewBadRequest("AddVolumeOptions requires VolumeSource to not be nil: set either dataVolume or persistentVolumeClaim")
	}
	opts.Disk.Name = opts.Name
	if d := opts.Disk; d.Disk == nil && d.LUN == nil && d.CDRom == nil {
		d.Disk = &v1.DiskTarget{}
	}
	// What is plugged in must be on a bus that takes it while the guest runs; the default for disks is one that does not.
	if d := opts.Disk.Disk; d != nil && d.Bus == "" {
		d.Bus = v1.DiskBusSCSI
	}
	if l := opts.Disk.LUN; l != nil && l.Bus == "" {
		l.Bus = v1.DiskBusSCSI
	}
	if opts.VolumeSource.DataVolume != nil {
		opts.VolumeSource.DataVolume.Hotpluggable = true
	} else {
		opts.VolumeSource.PersistentVolumeClaim.Hotpluggable = true
	}
	return opts, nil
}

func (s *Server) removeVolumeOptions(r *request) (*v1.RemoveVolumeOptions, error) {
	if err := s.hotplugOn(); err != nil {
		return nil, err
	}
	opts := &v1.RemoveVolumeOptions{}
	if err := options(r, opts); err != nil {
		return nil, err
	}
	if opts.Name == "" {
		return nil, apierrors.NewBadRequest("RemoveVolumeOptions requires name to be set")
	}
	return opts, nil
}

// pluggable gives a running VMI that is its own master: what a VM owns would undo a change that is not in the VM.
func (s *Server) pluggable(r *request) (*v1.VirtualMachineInstance, error) {
	vmi, err := s.vmi(r)
	if err != nil {
		return nil, err
	}
	if owner := metav1.GetControllerOf(vmi); owner != nil && owner.Kind == "VirtualMachine" &&
		!s.Config.Get().Gate(clusterconfig.GateHotplugVolumes) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("VMI %s is owned by a VM; change the volumes of virtualmachine %s instead",
			vmi.Name, owner.Name))
	}
	return vmi, running(vmi)
}

func addable(spec *v1.VirtualMachineInstanceSpec, opts *v1.AddVolumeOptions, name string) error {
	for _, v := range spec.Volumes {
		if v.Name == opts.Name {
			return vmConflict(name, "Unable to add volume [%s] because volume with that name already exists", opts.Name)
		}
		if source := claims.Of(v.VolumeSource); source != "" && source == claims.Of(volumeSource(opts)) {
			return vmConflict(name, "Unable to add volume source [%s] because it already exists", source)
		}
	}
	taken := slices.ContainsFunc(spec.Domain.Devices.Disks, func(d v1.Disk) bool { return d.Name == opts.Name })
	if taken {
		return vmConflict(name, "Unable to add volume [%s] because disk with that name already exists", opts.Name)
	}
	return nil
}

func volumeSource(opts *v1.AddVolumeOptions) v1.VolumeSource {
	return v1.VolumeSource{DataVolume: opts.VolumeSource.DataVolume, PersistentVolumeClaim: opts.VolumeSource.PersistentVolumeClaim}
}

func removable(spec *v1.VirtualMachineInstanceSpec, volume, name string) error {
	i := slices.IndexFunc(spec.Volumes, func(v v1.Volume) bool { return v.Name == volume })
	if i < 0 {
		return vmConflict(name, "Unable to remove volume [%s] because it does not exist", volume)
	}
	if !claims.Pluggable(spec.Volumes[i].VolumeSource) {
		return vmConflict(name, "Unable to remove volume [%s] because it is not hotpluggable", volume)
	}
	return nil
}

func addVolumePatch(base string, spec *v1.VirtualMachineInstanceSpec, opts *v1.AddVolumeOptions) patch {
	volumes := append(slices.Clone(spec.Volumes), v1.Volume{Name: opts.Name, VolumeSource: volumeSource(opts)})
	disks := append(slices.Clone(spec.Domain.Devices.Disks), *opts.Disk)
	return volumesPatch(base, spec, volumes, disks)
}

func removeVolumePatch(base string, spec *v1.VirtualMachineInstanceSpec, name string) patch {
	volumes := slices.DeleteFunc(slices.Clone(spec.Volumes), func(v v1.Volume) bool { return v.Name == name })
	disks := slices.DeleteFunc(slices.Clone(spec.Domain.Devices.Disks), func(d v1.Disk) bool {
		// A CD-ROM drive stays when its medium goes.
		return d.Name == name && d.CDRom == nil
	})
	return volumesPatch(base, spec, volumes, disks)
}

func volumesPatch(base string, spec *v1.VirtualMachineInstanceSpec, volumes []v1.Volume, disks []v1.Disk) patch {
	p := patch{}
	p.test(base+"/volumes", listOrNil(spec.Volumes))
	p.add(base+"/volumes", volumes)
	if !equality.Semantic.DeepEqual(disks, spec.Domain.Devices.Disks) {
		p.test(base+"/domain/devices/disks", listOrNil(spec.Domain.Devices.Disks))
		p.add(base+"/domain/devices/disks", disks)
	}
	return p
}

// listOrNil is what a test of an absent list needs.
func listOrNil[T any](list []T) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

// queueVolume asks the controller to plug, as clients of the deprecated gate HotplugVolumes expect.
func (s *Server) queueVolume(r *request, vm *v1.VirtualMachine, ask v1.VirtualMachineVolumeRequest, dryRun []string) error {
	name := volumeOf(ask)
	for _, queued := range vm.Status.VolumeRequests {
		if volumeOf(queued) == name {
			return vmConflict(vm.Name, "a request for volume [%s] is already queued", name)
		}
	}
	if vm.Spec.Template != nil {
		var err error
		if ask.AddVolumeOptions != nil {
			err = addable(&vm.Spec.Template.Spec, ask.AddVolumeOptions, vm.Name)
		} else {
			err = removable(&vm.Spec.Template.Spec, name, vm.Name)
		}
		if err != nil {
			return err
		}
	}
	p := patch{}
	p.test("/status/volumeRequests", listOrNil(vm.Status.VolumeRequests))
	p.add("/status/volumeRequests", append(slices.Clone(vm.Status.VolumeRequests), ask))
	return s.patchStatus(r.Context(), vm, p, dryRun)
}

func volumeOf(ask v1.VirtualMachineVolumeRequest) string {
	if ask.AddVolumeOptions != nil {
		return ask.AddVolumeOptions.Name
	}
	if ask.RemoveVolumeOptions != nil {
		return ask.RemoveVolumeOptions.Name
	}
	return ""
}
