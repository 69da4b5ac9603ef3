//go:build bench

package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

type unit string

const (
	seconds unit = "s"
	millis  unit = "ms"
	mib     unit = "MiB"
	mb      unit = "MB"
	count   unit = ""
	percent unit = "%"
	// ratio is a share of something else.
	ratio unit = "×"
)

// figure is one thing that is promised, with what was measured.
type figure struct {
	name string
	// promise is the most that is allowed, above the floor if aboveFloor is set.
	promise    float64
	aboveFloor bool
	unit       unit
	values     []float64
	// floor is what the machine needs without the platform; empty where there is no such thing.
	floor     []float64
	floorName string
	// upstream is what KubeVirt 1.9 needed on the same kind of machine.
	upstream string
}

func (f figure) limit() float64 {
	if f.aboveFloor {
		return median(f.floor) + f.promise
	}
	return f.promise
}

func (f figure) kept() bool { return median(f.values) <= f.limit() }

func (f figure) format(value float64) string {
	text := fmt.Sprintf("%.2f", value)
	if f.unit != seconds && f.unit != ratio {
		text = fmt.Sprintf("%.1f", value)
	}
	return strings.TrimSpace(strings.TrimSuffix(text, ".0") + " " + string(f.unit))
}

// table collects the figures of a run.
type table struct {
	started string
	figures []figure
	notes   []string
}

func (t *table) add(f figure) {
	t.figures = append(t.figures, f)
	fmt.Printf("bench: %s: %s, %s\n", f.name, f.format(median(f.values)), machine())
}

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) missed() []string {
	var names []string
	for _, f := range t.figures {
		if !f.kept() {
			names = append(names, f.name)
		}
	}
	return names
}

func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d processors; at the start %s, at the end %s\n\n", runtime.NumCPU(), t.started, machine())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tPROMISE\tMEASURED\tN\tFLOOR\tUPSTREAM 1.9\tKEPT")
	for _, f := range t.figures {
		promise, floor, kept := "≤ "+f.format(f.promise), "-", "yes"
		if f.aboveFloor {
			promise = "≤ floor + " + f.format(f.promise)
		}
		if len(f.floor) > 0 {
			floor = f.format(median(f.floor)) + " " + f.floorName
		}
		if !f.kept() {
			kept = "NO"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t[%s]\t%s\n", f.name, promise, f.format(median(f.values)), len(f.values), floor, f.upstream, kept)
	}
	_ = w.Flush()
	for _, note := range t.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	return b.String()
}

// median is the middle of the values, 0 if there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

// machine says when, and what else the machine is busy with: no figure is worth anything without it.
func machine() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load unknown"
	}
	return time.Now().UTC().Format("15:04:05") + " load " + strings.Join(strings.Fields(string(load))[:3], " ")
}
