// Package list is the command that shows what is in image files.
package list

import (
	"strconv"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
	"virtctl/internal/images"
)

// Entry is one image of a file.
type Entry struct {
	File     string `json:"file"`
	Image    string `json:"image"`
	Digest   string `json:"digest"`
	Size     int64  `json:"size"`
	Layers   int    `json:"layers"`
	Platform string `json:"platform"`
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	var out output.Flag
	cmd := &cobra.Command{
		Use:   "list FILE...",
		Short: "Show which images are in files",
		Example: `  # What the build has made
  {{ProgramName}} images list out/images/*.tar`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return Run(f, &out, args) },
	}
	out.Bind(cmd, output.Table, output.Table, output.JSON, output.YAML, output.Path)
	return cmd
}

// Run lists.
func Run(f *factory.Factory, out *output.Flag, files []string) error {
	if err := out.Check(); err != nil {
		return err
	}
	var found []Entry
	var failed []error
	for _, file := range files {
		entries, err := read(file)
		if err != nil {
			failed = append(failed, err)
		}
		found = append(found, entries...)
	}
	if err := show(f, out, found); err != nil {
		return err
	}
	return problem.Join(f.Streams, f.Program, failed)
}

func read(file string) ([]Entry, error) {
	archive, err := images.Read(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = archive.Close() }()
	var entries []Entry
	for _, i := range archive.Images {
		entries = append(entries, Entry{file, i.Ref, i.Digest, i.Size, i.Layers, i.Platform})
	}
	return entries, nil
}

func show(f *factory.Factory, out *output.Flag, found []Entry) error {
	if !out.IsTable() {
		return out.Value(f.Streams, found)
	}
	if len(found) == 0 {
		return nil
	}
	grid := output.Grid{Head: []string{"IMAGE", "SIZE", "LAYERS", "PLATFORM", "DIGEST"}}
	for _, e := range found {
		grid.Rows = append(grid.Rows, []string{e.Image, volume.Bytes(e.Size), strconv.Itoa(e.Layers), e.Platform, e.Digest})
	}
	return grid.Print(f.Streams)
}
