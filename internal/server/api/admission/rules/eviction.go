package rules

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
)

// immovable refuses evictionStrategy LiveMigrate on a machine that can never migrate: it would keep its node from being emptied. Only
// what the owner wrote is judged; what cannot be known before the machine runs is said by its condition LiveMigratable.
func immovable(c *Check, at *field.Path, vm *v1.VirtualMachineSpec, spec *v1.VirtualMachineInstanceSpec) {
	if !mustMove(&vm.Template.Spec) {
		return
	}
	refuse := func(why string) { c.notMovable(at, why) }
	devices := &spec.Domain.Devices
	switch {
	case len(devices.GPUs) > 0 || len(devices.HostDevices) > 0:
		refuse("a machine with passed-through devices of its node cannot migrate")
	case slices.ContainsFunc(devices.Interfaces, func(i v1.Interface) bool { return i.SRIOV != nil }):
		refuse("a machine with SR-IOV network cards cannot migrate")
	case spec.Domain.LaunchSecurity != nil:
		refuse("a machine with encrypted memory cannot migrate")
	case slices.ContainsFunc(spec.Volumes, func(v v1.Volume) bool { return v.HostDisk != nil && (v.HostDisk.Shared == nil || !*v.HostDisk.Shared) }):
		refuse("a machine with a disk in a file of its node cannot migrate")
	}
	for _, t := range vm.DataVolumeTemplates {
		var modes []corev1.PersistentVolumeAccessMode
		switch {
		case t.Spec.PVC != nil:
			modes = t.Spec.PVC.AccessModes
		case t.Spec.Storage != nil:
			modes = t.Spec.Storage.AccessModes
		}
		if len(modes) > 0 && !slices.Contains(modes, corev1.ReadWriteMany) {
			refuse(notShared("data volume " + t.Name))
			return
		}
	}
}

func (c *Check) notMovable(at *field.Path, why string) {
	c.invalid(at.Child("evictionStrategy"), "%s cannot be LiveMigrate: %s; use %s or %s",
		at.Child("evictionStrategy"), why, v1.EvictionStrategyLiveMigrateIfPossible, v1.EvictionStrategyNone)
}
