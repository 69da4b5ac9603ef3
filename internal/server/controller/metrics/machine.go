package metrics

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
)

// Annotations of machines that tell of their template.
const (
	annotationOS       = "vm.kubevirt.io/os"
	annotationWorkload = "vm.kubevirt.io/workload"
	annotationFlavor   = "vm.kubevirt.io/flavor"
	none               = "<none>"
)

func orNone(value string) string {
	if value == "" {
		return none
	}
	return value
}

// groups are the contract's groups of what a VM's status says.
func groups() map[string][]v1.VirtualMachinePrintableStatus {
	return map[string][]v1.VirtualMachinePrintableStatus{
		"starting": {
			v1.VirtualMachineStatusProvisioning, v1.VirtualMachineStatusStarting, v1.VirtualMachineStatusWaitingForVolumeBinding,
		},
		"running":   {v1.VirtualMachineStatusRunning},
		"migrating": {v1.VirtualMachineStatusMigrating},
		"non_running": {
			v1.VirtualMachineStatusStopped, v1.VirtualMachineStatusPaused, v1.VirtualMachineStatusStopping, v1.VirtualMachineStatusTerminating,
		},
		"error": {
			v1.VirtualMachineStatusCrashLoopBackOff, v1.VirtualMachineStatusUnknown, v1.VirtualMachineStatusUnschedulable,
			v1.VirtualMachineStatusErrImagePull, v1.VirtualMachineStatusImagePullBackOff, v1.VirtualMachineStatusPvcNotFound,
			v1.VirtualMachineStatusDataVolumeError,
		},
	}
}

func groupOf(status v1.VirtualMachinePrintableStatus) string {
	for name, members := range groups() {
		if slices.Contains(members, status) {
			return name
		}
	}
	return "error"
}

// machine tells of one VM.
func (s sink) machine(vm *v1.VirtualMachine) {
	id := []label{{"name", vm.Name}, {"namespace", vm.Namespace}}
	group := groupOf(vm.Status.PrintableStatus)
	info := slices.Clone(id)
	if t := vm.Spec.Template; t != nil {
		machine := ""
		if m := t.Spec.Domain.Machine; m != nil {
			machine = m.Type
		}
		info = append(info, label{"os", orNone(t.ObjectMeta.Annotations[annotationOS])}, label{"workload", orNone(t.ObjectMeta.Annotations[annotationWorkload])},
			label{"flavor", orNone(t.ObjectMeta.Annotations[annotationFlavor])}, label{"machine_type", orNone(machine)})
	}
	kind, preference := none, none
	if vm.Spec.Instancetype != nil {
		kind = vm.Spec.Instancetype.Name
	}
	if vm.Spec.Preference != nil {
		preference = vm.Spec.Preference.Name
	}
	if vm.Spec.Template != nil {
		info = append(info, label{"instance_type", orNone(kind)}, label{"preference", orNone(preference)},
			label{"status", string(vm.Status.PrintableStatus)}, label{"status_group", group})
		s.gauge("kubevirt_vm_info", "Information about Virtual Machines.", 1, info)
	}
	s.gauge("kubevirt_vm_create_date_timestamp_seconds", "Virtual Machine creation timestamp.", float64(vm.CreationTimestamp.Unix()), id)
	for name := range groups() {
		value := float64(0)
		if name == group {
			value = float64(lastChange(vm))
		}
		s.counter("kubevirt_vm_"+name+"_status_last_transition_timestamp_seconds", "Virtual Machine last transition timestamp to "+name+" status.", value, id)
	}
	s.resources(vm, id)
}

// lastChange is when the VM's conditions last changed.
func lastChange(vm *v1.VirtualMachine) int64 {
	last := vm.CreationTimestamp.Unix()
	for _, c := range vm.Status.Conditions {
		last = max(last, c.LastTransitionTime.Unix())
	}
	return last
}

// resources tells what a VM asks for.
func (s sink) resources(vm *v1.VirtualMachine, id []label) {
	if vm.Spec.Template == nil {
		return
	}
	d := &vm.Spec.Template.Spec.Domain
	one := func(metric, help, resource, unit, source string, value float64) {
		s.gauge(metric, help, value, append(slices.Clone(id), label{"resource", resource}, label{"unit", unit}, label{"source", source}))
	}
	const requests, requestsHelp = "kubevirt_vm_resource_requests", "Resources requested by Virtual Machine. Reports memory and CPU requests."
	const limits, limitsHelp = "kubevirt_vm_resource_limits", "Resources limits by Virtual Machine. Reports memory and CPU limits."
	if d.Memory != nil && d.Memory.Guest != nil {
		one(requests, requestsHelp, "memory", "bytes", "guest_effective", float64(d.Memory.Guest.Value()))
	}
	if c := d.CPU; c != nil {
		for name, value := range map[string]uint32{"cores": c.Cores, "sockets": c.Sockets, "threads": c.Threads} {
			one(requests, requestsHelp, "cpu", name, "domain", float64(max(value, 1)))
		}
	}
	for _, l := range []struct {
		metric, help string
		list         corev1.ResourceList
	}{{requests, requestsHelp, d.Resources.Requests}, {limits, limitsHelp, d.Resources.Limits}} {
		if q, ok := l.list[corev1.ResourceMemory]; ok {
			one(l.metric, l.help, "memory", "bytes", "domain", float64(q.Value()))
		}
		if q, ok := l.list[corev1.ResourceCPU]; ok {
			one(l.metric, l.help, "cpu", "cores", "requests", q.AsApproximateFloat64())
		}
	}
}
