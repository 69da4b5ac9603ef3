package get

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/duration"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/output"
	"virtctl/internal/migrationprogress"
)

const unknown = "<none>"

func or(value string) string {
	if value == "" {
		return unknown
	}
	return value
}

// runs finds the runs of the listed machines; without the permission to read them their columns stay empty.
func runs(ctx context.Context, q *query) any {
	found := map[string]*kubevirtv1.VirtualMachineInstance{}
	list, err := q.client.VMIs(q.namespace).List(ctx, client.ListOptions{})
	if err != nil {
		return found
	}
	for i := range list.Items {
		vmi := &list.Items[i]
		found[vmi.Namespace+"/"+vmi.Name] = vmi
	}
	return found
}

func runOf(vm *kubevirtv1.VirtualMachine, in *facts) *kubevirtv1.VirtualMachineInstance {
	return in.extra.(map[string]*kubevirtv1.VirtualMachineInstance)[vm.Namespace+"/"+vm.Name]
}

func vms() view {
	type vm = kubevirtv1.VirtualMachine
	return typed[vm]{
		what: client.VirtualMachine(), names: []string{"vms", "vm", "virtualmachine", "virtualmachines"}, lookUp: runs,
		columns: []column[vm]{
			{"NAME", false, func(v *vm, _ *facts) string { return v.Name }},
			{"STATUS", false, func(v *vm, _ *facts) string { return or(string(v.Status.PrintableStatus)) }},
			{"READY", false, func(v *vm, _ *facts) string { return title(v.Status.Ready) }},
			{"IP", false, func(v *vm, in *facts) string { return address(runOf(v, in)) }},
			{"NODE", false, func(v *vm, in *facts) string { return node(runOf(v, in)) }},
			{"CPU", true, func(v *vm, in *facts) string { return cpus(v, runOf(v, in)) }},
			{"MEMORY", true, func(v *vm, in *facts) string { return memory(v, runOf(v, in)) }},
			{"RUN-STRATEGY", true, func(v *vm, _ *facts) string { return strategy(v) }},
			{"AGE", false, func(v *vm, in *facts) string { return output.Age(v.CreationTimestamp, in.q.now) }},
		},
	}
}

func vmis() view {
	type vmi = kubevirtv1.VirtualMachineInstance
	return typed[vmi]{
		what: client.VirtualMachineInstance(), names: []string{"vmis", "vmi", "virtualmachineinstance", "virtualmachineinstances"},
		columns: []column[vmi]{
			{"NAME", false, func(v *vmi, _ *facts) string { return v.Name }},
			{"PHASE", false, func(v *vmi, _ *facts) string { return or(string(v.Status.Phase)) }},
			{"READY", false, func(v *vmi, _ *facts) string { return conditionOf(v, kubevirtv1.VirtualMachineInstanceReady) }},
			{"PAUSED", true, func(v *vmi, _ *facts) string { return conditionOf(v, kubevirtv1.VirtualMachineInstancePaused) }},
			{"AGENT", true, func(v *vmi, _ *facts) string { return conditionOf(v, kubevirtv1.VirtualMachineInstanceAgentConnected) }},
			{"MIGRATABLE", true, func(v *vmi, _ *facts) string {
				return conditionOf(v, kubevirtv1.VirtualMachineInstanceIsMigratable)
			}},
			{"IP", false, func(v *vmi, _ *facts) string { return address(v) }},
			{"NODE", false, func(v *vmi, _ *facts) string { return node(v) }},
			{"CPU", true, func(v *vmi, _ *facts) string { return cpus(nil, v) }},
			{"MEMORY", true, func(v *vmi, _ *facts) string { return memory(nil, v) }},
			{"AGE", false, func(v *vmi, in *facts) string { return output.Age(v.CreationTimestamp, in.q.now) }},
		},
	}
}

func migrations() view {
	type migration = kubevirtv1.VirtualMachineInstanceMigration
	return typed[migration]{
		what:  client.Migration(),
		names: []string{"migrations", "migration", "vmim", "vmims", "virtualmachineinstancemigration", "virtualmachineinstancemigrations"},
		columns: []column[migration]{
			{"NAME", false, func(m *migration, _ *facts) string { return m.Name }},
			{"VMI", false, func(m *migration, _ *facts) string { return m.Spec.VMIName }},
			{"PHASE", false, func(m *migration, _ *facts) string { return or(string(m.Status.Phase)) }},
			{"FROM", false, func(m *migration, _ *facts) string { return or(stateOf(m).SourceNode) }},
			{"TO", false, func(m *migration, _ *facts) string { return or(stateOf(m).TargetNode) }},
			{"TOOK", true, func(m *migration, in *facts) string { return took(stateOf(m), in.q.now) }},
			{"SENT", true, func(m *migration, _ *facts) string { return sent(migrationprogress.Of(m.Annotations, m.UID)) }},
			{"DOWNTIME", true, func(m *migration, _ *facts) string { return downtime(migrationprogress.Of(m.Annotations, m.UID)) }},
			{"REASON", true, func(m *migration, _ *facts) string { return or(await.EndedBecause(m)) }},
			{"AGE", false, func(m *migration, in *facts) string { return output.Age(m.CreationTimestamp, in.q.now) }},
		},
	}
}

func sent(p *migrationprogress.Progress) string {
	if p == nil {
		return unknown
	}
	return fmt.Sprintf("%dMi", p.ProcessedBytes>>20)
}

func downtime(p *migrationprogress.Progress) string {
	if p == nil || p.DowntimeMillis == 0 {
		return unknown
	}
	return fmt.Sprintf("%dms", p.DowntimeMillis)
}

func stateOf(m *kubevirtv1.VirtualMachineInstanceMigration) *kubevirtv1.VirtualMachineInstanceMigrationState {
	if m.Status.MigrationState == nil {
		return &kubevirtv1.VirtualMachineInstanceMigrationState{}
	}
	return m.Status.MigrationState
}

func took(s *kubevirtv1.VirtualMachineInstanceMigrationState, now time.Time) string {
	if s.StartTimestamp == nil {
		return unknown
	}
	if s.EndTimestamp != nil {
		now = s.EndTimestamp.Time
	}
	return duration.HumanDuration(now.Sub(s.StartTimestamp.Time))
}

func title(yes bool) string {
	if yes {
		return "True"
	}
	return "False"
}

func address(vmi *kubevirtv1.VirtualMachineInstance) string {
	if vmi == nil || vmi.IsFinal() {
		return unknown
	}
	for _, i := range vmi.Status.Interfaces {
		if i.IP != "" {
			return i.IP
		}
	}
	return unknown
}

func node(vmi *kubevirtv1.VirtualMachineInstance) string {
	if vmi == nil || vmi.IsFinal() {
		return unknown
	}
	return or(vmi.Status.NodeName)
}

func conditionOf(vmi *kubevirtv1.VirtualMachineInstance, kind kubevirtv1.VirtualMachineInstanceConditionType) string {
	for _, c := range vmi.Status.Conditions {
		if c.Type == kind {
			return string(c.Status)
		}
	}
	return string(corev1.ConditionFalse)
}

func strategy(vm *kubevirtv1.VirtualMachine) string {
	s, err := vm.RunStrategy()
	if err != nil {
		return unknown
	}
	return string(s)
}

// domain is what the machine consists of: as it runs, else as it is specified.
func domain(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) *kubevirtv1.DomainSpec {
	switch {
	case vmi != nil:
		return &vmi.Spec.Domain
	case vm != nil && vm.Spec.Template != nil:
		return &vm.Spec.Template.Spec.Domain
	}
	return &kubevirtv1.DomainSpec{}
}

func cpus(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) string {
	d := domain(vm, vmi)
	if vmi == nil && vm != nil && vm.Spec.Instancetype != nil {
		return instancetype(vm)
	}
	total := uint32(1)
	if d.CPU != nil {
		for _, factor := range []uint32{d.CPU.Sockets, d.CPU.Cores, d.CPU.Threads} {
			total *= max(factor, 1)
		}
	} else if requested, ok := d.Resources.Requests[corev1.ResourceCPU]; ok && requested.Value() > 0 {
		return strconv.FormatInt(requested.Value(), 10)
	}
	return strconv.FormatUint(uint64(total), 10)
}

func memory(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) string {
	if vmi != nil && vmi.Status.Memory != nil && vmi.Status.Memory.GuestCurrent != nil {
		return size(*vmi.Status.Memory.GuestCurrent)
	}
	if vmi == nil && vm != nil && vm.Spec.Instancetype != nil {
		return instancetype(vm)
	}
	d := domain(vm, vmi)
	if d.Memory != nil && d.Memory.Guest != nil {
		return size(*d.Memory.Guest)
	}
	for _, list := range []corev1.ResourceList{d.Resources.Requests, d.Resources.Limits} {
		if requested, ok := list[corev1.ResourceMemory]; ok {
			return size(requested)
		}
	}
	return unknown
}

func instancetype(vm *kubevirtv1.VirtualMachine) string {
	if vm.Spec.Instancetype.Name == "" {
		return "inferred"
	}
	return "(" + vm.Spec.Instancetype.Name + ")"
}

func size(q resource.Quantity) string { return q.String() }

// roughly writes a large quantity the way people read it: 24632892Ki is 23.5Gi.
func roughly(q resource.Quantity) string {
	const gibi = 1 << 30
	if q.Value() < gibi {
		return q.String()
	}
	return strconv.FormatFloat(float64(q.Value())/gibi, 'f', 1, 64) + "Gi"
}
