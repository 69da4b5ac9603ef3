// Package screenshot is the command that takes a picture of a machine's screen.
package screenshot

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	File       string
	MoveCursor bool
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "screenshot VMI",
		Short: "Take a picture of a machine's screen",
		Example: `  # Into a file
  {{ProgramName}} vnc screenshot web --file web.png

  # Into a pipe
  {{ProgramName}} vnc screenshot web --file - | display`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VMI),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args[0])
		},
	}
	cmd.Flags().StringVarP(&opts.File, "file", "f", "", "File to write the PNG picture to; - is standard output")
	cmd.Flags().BoolVarP(&opts.MoveCursor, "move-cursor", "m", false, "Move the pointer a little first, so that a screen saver goes away")
	_ = cmd.MarkFlagRequired("file")
	return cmd
}

// Run takes the picture.
func Run(ctx context.Context, f *factory.Factory, opts *Options, name string) error {
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	t, err := target.ParseOne(target.VMI, namespace, name)
	if err != nil {
		return err
	}
	if opts.File == "-" && f.Streams.OutTTY {
		return problem.Usagef("a picture does not belong on a terminal: write it to a file or into a pipe")
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	vmi := client.VMI(t.Namespace, t.Name)
	picture, err := c.Read(ctx, vmi, "vnc/screenshot", url.Values{"moveCursor": {strconv.FormatBool(opts.MoveCursor)}})
	if err != nil {
		return fmt.Errorf("cannot take a picture of %s: %w", t.Name, target.Explain(ctx, c, vmi, err))
	}
	if opts.File == "-" {
		_, err = f.Streams.Out.Write(picture)
	} else {
		err = os.WriteFile(opts.File, picture, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}
