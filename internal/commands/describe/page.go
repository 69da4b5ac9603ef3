package describe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/commands/await"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/reason"
	"virtctl/internal/commands/terminal"
	"virtctl/internal/migrationprogress"
)

// page prints one machine.
type page struct {
	streams *terminal.Streams
	machine *machine
	now     time.Time
	events  int
}

func (p *page) print() error {
	p.head()
	for _, section := range []func() error{p.conditions, p.volumes, p.interfaces, p.migrations, p.eventList} {
		if err := section(); err != nil {
			return err
		}
	}
	for _, err := range p.machine.unread {
		p.streams.Say("warning: not everything could be read: %s\n", err)
	}
	return nil
}

func (p *page) line(name, format string, args ...any) {
	p.streams.Print("%-14s %s\n", name+":", fmt.Sprintf(format, args...))
}

func (p *page) head() {
	m := p.machine
	state := await.State{VM: m.vm, VMI: m.vmi}
	var meta metav1.ObjectMeta
	if m.vm != nil {
		meta = m.vm.ObjectMeta
	} else {
		meta = m.vmi.ObjectMeta
	}
	p.line("Name", "%s", meta.Name)
	p.line("Namespace", "%s", meta.Namespace)
	p.pairs("Labels", meta.Labels)
	p.pairs("Annotations", meta.Annotations)
	p.line("Created", "%s", p.ago(meta.CreationTimestamp))
	p.line("Status", "%s", state.Phase())
	for i, why := range m.why {
		name := "Why"
		if i > 0 {
			p.streams.Print("%-14s %s\n", "", why)
			continue
		}
		p.line(name, "%s", why)
	}
	if m.vm != nil {
		if strategy, err := m.vm.RunStrategy(); err == nil {
			p.line("Run strategy", "%s", strategy)
		}
		if matcher := m.vm.Spec.Instancetype; matcher != nil {
			p.line("Instance type", "%s", first(matcher.Name, "inferred from volume "+matcher.InferFromVolume))
		}
		if matcher := m.vm.Spec.Preference; matcher != nil {
			p.line("Preference", "%s", first(matcher.Name, "inferred from volume "+matcher.InferFromVolume))
		}
	}
	p.run()
}

// run is what is known only while the machine runs.
func (p *page) run() {
	vmi := p.machine.vmi
	if vmi == nil {
		return
	}
	p.line("Node", "%s", first(vmi.Status.NodeName, "none yet"))
	for _, pod := range p.machine.pods {
		p.line("Pod", "%s (%s)", pod.Name, pod.Status.Phase)
	}
	if topology := vmi.Status.CurrentCPUTopology; topology != nil {
		p.line("CPU", "%d (sockets %d, cores %d, threads %d)", topology.Sockets*topology.Cores*topology.Threads, topology.Sockets, topology.Cores, topology.Threads)
	}
	if memory := vmi.Status.Memory; memory != nil && memory.GuestCurrent != nil {
		p.line("Memory", "%s", memory.GuestCurrent)
	}
	if machine := vmi.Status.Machine; machine != nil {
		p.line("Machine type", "%s", machine.Type)
	}
	if os := vmi.Status.GuestOSInfo; os.PrettyName != "" || os.Name != "" {
		p.line("Guest", "%s, kernel %s", first(os.PrettyName, os.Name), first(os.KernelRelease, "unknown"))
	}
}

func (p *page) pairs(name string, values map[string]string) {
	for i, key := range slices.Sorted(maps.Keys(values)) {
		text := key + "=" + values[key]
		if key == corev1.LastAppliedConfigAnnotation {
			continue
		}
		if i == 0 {
			p.line(name, "%s", text)
		} else {
			p.streams.Print("%-14s %s\n", "", text)
		}
	}
}

func (p *page) ago(t metav1.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s ago)", t.Local().Format(time.DateTime), duration.HumanDuration(p.now.Sub(t.Time)))
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// section prints a heading and a table, or nothing when there are no rows.
func (p *page) section(title string, head []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	p.streams.Print("\n%s:\n", title)
	return output.Grid{Head: head, Rows: rows, Indent: "  "}.Print(p.streams)
}

func (p *page) conditions() error {
	var rows [][]string
	seen := map[string]bool{}
	add := func(kind, status, why, message string) {
		if !seen[kind] {
			seen[kind] = true
			rows = append(rows, []string{kind, status, why, oneLine(message)})
		}
	}
	if p.machine.vmi != nil {
		for _, c := range p.machine.vmi.Status.Conditions {
			add(string(c.Type), string(c.Status), c.Reason, c.Message)
		}
	}
	if p.machine.vm != nil {
		for _, c := range p.machine.vm.Status.Conditions {
			add(string(c.Type), string(c.Status), c.Reason, c.Message)
		}
	}
	return p.section("Conditions", []string{"TYPE", "STATUS", "REASON", "MESSAGE"}, rows)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func (p *page) spec() *kubevirtv1.VirtualMachineInstanceSpec {
	switch {
	case p.machine.vmi != nil:
		return &p.machine.vmi.Spec
	case p.machine.vm.Spec.Template != nil:
		return &p.machine.vm.Spec.Template.Spec
	}
	return &kubevirtv1.VirtualMachineInstanceSpec{}
}

func (p *page) migrations() error {
	const most = 5
	list := slices.Clone(p.machine.migrations)
	slices.SortStableFunc(list, func(a, b kubevirtv1.VirtualMachineInstanceMigration) int {
		return b.CreationTimestamp.Compare(a.CreationTimestamp.Time)
	})
	var rows [][]string
	for _, one := range list[:min(most, len(list))] {
		state := one.Status.MigrationState
		if state == nil {
			state = &kubevirtv1.VirtualMachineInstanceMigrationState{}
		}
		rows = append(rows, []string{
			one.Name, string(one.Status.Phase), first(state.SourceNode, "-"), first(state.TargetNode, "-"),
			output.Age(one.CreationTimestamp, p.now), howItWent(&one),
		})
	}
	return p.section("Last migrations", []string{"NAME", "PHASE", "FROM", "TO", "AGE", "HOW IT ENDED"}, rows)
}

// howItWent is why a migration failed, or how long the guest stood still.
func howItWent(m *kubevirtv1.VirtualMachineInstanceMigration) string {
	if m.Status.Phase == kubevirtv1.MigrationFailed {
		return oneLine(await.EndedBecause(m))
	}
	if progress := migrationprogress.Of(m.Annotations, m.UID); progress != nil && progress.DowntimeMillis > 0 {
		return fmt.Sprintf("%dMi sent, the guest stood still for %d ms", progress.ProcessedBytes>>20, progress.DowntimeMillis)
	}
	return ""
}

func (p *page) eventList() error {
	events := p.machine.events
	events = events[max(0, len(events)-p.events):]
	var rows [][]string
	for _, e := range events {
		count := ""
		if e.Count > 1 {
			count = fmt.Sprintf(" (x%d)", e.Count)
		}
		rows = append(rows, []string{
			output.Age(metav1.NewTime(reason.LastSeen(e)), p.now) + count, e.Type, e.Reason,
			strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name, oneLine(e.Message),
		})
	}
	return p.section("Events", []string{"AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"}, rows)
}
