package migrate

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/terminal"
	"virtctl/internal/migrationprogress"
)

// screen shows how migrations go on: a line for each that changes in place on a terminal, a line for each step in a pipe.
type screen struct {
	streams *terminal.Streams
	talks   bool

	mu    sync.Mutex
	order []client.Target
	lines map[client.Target]string
	ends  map[client.Target]*Result
	drawn int
}

// Result is what became of a migration.
type Result struct {
	Namespace string `json:"namespace"`
	VM        string `json:"vm"`
	Migration string `json:"migration,omitempty"`
	Phase     string `json:"phase,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Policy    string `json:"policy,omitempty"`
	Mode      string `json:"mode,omitempty"`
	// Seconds is from the request to the end.
	Seconds          float64 `json:"seconds,omitempty"`
	DowntimeMillis   uint64  `json:"downtimeMillis,omitempty"`
	TransferredBytes uint64  `json:"transferredBytes,omitempty"`
	Failure          string  `json:"failure,omitempty"`
}

func newScreen(streams *terminal.Streams, talks bool) *screen {
	return &screen{streams: streams, talks: talks, lines: map[client.Target]string{}, ends: map[client.Target]*Result{}}
}

// told gives what a wait reports to.
func (s *screen) told(t client.Target) await.Moving {
	return func(m *kubevirtv1.VirtualMachineInstanceMigration, p *migrationprogress.Progress) {
		if !m.IsFinal() {
			s.show(t, describe(m, p))
		}
	}
}

func (s *screen) show(t client.Target, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.talks || s.lines[t] == line {
		return
	}
	if _, known := s.lines[t]; !known {
		s.order = append(s.order, t)
	}
	s.lines[t] = line
	if !s.streams.ErrTTY {
		s.streams.Say("%s: %s\n", t.Name, line)
		return
	}
	s.draw()
}

// draw writes all lines again where they were.
func (s *screen) draw() {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	for _, t := range s.order {
		fmt.Fprintf(&b, "\r\x1b[2K%s: %s\n", t.Name, s.lines[t])
	}
	s.drawn = len(s.order)
	s.streams.Say("%s", b.String())
}

// describe is a migration in one line.
func describe(m *kubevirtv1.VirtualMachineInstanceMigration, p *migrationprogress.Progress) string {
	state := m.Status.MigrationState
	text := string(cmp.Or(m.Status.Phase, kubevirtv1.MigrationPending))
	if state != nil && state.TargetNode != "" {
		text += fmt.Sprintf(", %s to %s", state.SourceNode, state.TargetNode)
	}
	if state != nil && state.Mode != "" && state.Mode != kubevirtv1.MigrationPreCopy {
		text += ", " + string(state.Mode)
	}
	if p == nil || p.TotalBytes == 0 {
		return text
	}
	text += fmt.Sprintf(", %s sent at %s/s, %s of %s remain, the guest changes %s/s",
		size(p.ProcessedBytes), size(p.TransferRateBytes), size(p.RemainingBytes), size(p.TotalBytes), size(p.DirtyRateBytes))
	if left, ok := p.Left(); ok {
		return text + ", " + left.Round(time.Second).String() + " to go"
	}
	return text + ", no end in sight"
}

func size(bytes uint64) string {
	if bytes < 10<<30 {
		return fmt.Sprintf("%d MiB", (bytes+1<<19)>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// ended takes down what became of a migration.
func (s *screen) ended(ctx context.Context, c *client.Client, t client.Target, m *kubevirtv1.VirtualMachineInstanceMigration) {
	r := &Result{Namespace: t.Namespace, VM: t.Name}
	if m != nil {
		r.fill(m)
		if vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name); err == nil {
			if p := migrationprogress.Of(vmi.Annotations, m.UID); p != nil {
				r.DowntimeMillis, r.TransferredBytes = p.DowntimeMillis, p.ProcessedBytes
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends[t] = r
}

func (r *Result) fill(m *kubevirtv1.VirtualMachineInstanceMigration) {
	r.Migration, r.Phase = m.Name, string(m.Status.Phase)
	if all := m.Status.PhaseTransitionTimestamps; m.IsFinal() && len(all) > 0 {
		r.Seconds = all[len(all)-1].PhaseTransitionTimestamp.Sub(m.CreationTimestamp.Time).Seconds()
	}
	if m.Status.Phase == kubevirtv1.MigrationFailed {
		r.Failure = await.EndedBecause(m)
	}
	if state := m.Status.MigrationState; state != nil {
		r.From, r.To, r.Mode = state.SourceNode, state.TargetNode, string(state.Mode)
		if state.MigrationPolicyName != nil {
			r.Policy = *state.MigrationPolicyName
		}
	}
}

// outcome is the line for a machine that has moved.
func (s *screen) outcome(t client.Target) string {
	text := migrated(t)
	r := s.result(t)
	if r == nil || r.To == "" {
		return text
	}
	text += fmt.Sprintf(" from %s to %s in %.0fs", r.From, r.To, r.Seconds)
	if r.TransferredBytes > 0 {
		text += fmt.Sprintf(", %s sent, the guest stood still for %d ms", size(r.TransferredBytes), r.DowntimeMillis)
	}
	return text
}

func migrated(t client.Target) string { return target.Word(t) + " " + t.Name + " is migrated" }

func (s *screen) result(t client.Target) *Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[t]
}

// object is what -o json prints: the migration's outcome, or without --wait the machine.
func (s *screen) object(ctx context.Context, c *client.Client, t client.Target) (any, error) {
	if r := s.result(t); r != nil {
		return r, nil
	}
	return c.VMs(t.Namespace).Get(ctx, t.Name)
}
