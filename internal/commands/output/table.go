package output

import (
	"fmt"
	"strings"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"virtctl/internal/commands/terminal"
)

// Grid is a table of text without lines: easy on the eye, easy on awk.
type Grid struct {
	Head []string
	Rows [][]string
	// NoHead leaves the head line out.
	NoHead bool
	// Indent begins every line.
	Indent string
}

// Print writes the grid to the data stream.
func (g Grid) Print(streams *terminal.Streams) error {
	off := tw.Rendition{
		Borders: tw.BorderNone,
		Settings: tw.Settings{
			Lines:      tw.LinesNone,
			Separators: tw.SeparatorsNone,
		},
	}
	cell := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
		Alignment:  tw.CellAlignment{Global: tw.AlignLeft},
		Padding:    tw.CellPadding{Global: tw.Padding{Left: "", Right: "   ", Overwrite: true}},
	}
	var text strings.Builder
	table := tablewriter.NewTable(&text,
		tablewriter.WithRenderer(renderer.NewBlueprint(off)),
		tablewriter.WithConfig(tablewriter.Config{Header: cell, Row: cell, Behavior: tw.Behavior{TrimSpace: tw.On}}),
	)
	if !g.NoHead {
		table.Header(g.Head)
	}
	for _, row := range g.Rows {
		if err := table.Append(row); err != nil {
			return fmt.Errorf("lay out the table: %w", err)
		}
	}
	if err := table.Render(); err != nil {
		return fmt.Errorf("lay out the table: %w", err)
	}
	for line := range strings.Lines(text.String()) {
		streams.Print("%s\n", strings.TrimRight(g.Indent+line, " \n"))
	}
	return nil
}

// Age is how long ago something happened, as kubectl writes it.
func Age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}
