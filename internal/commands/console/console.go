// Package console is the command that connects to a machine's serial console.
package console

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/target"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:               "console VMI",
		Short:             "Connect to a machine's serial console",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VMI),
		RunE:              func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, args[0]) },
	}
}

// Run connects.
func Run(ctx context.Context, f *factory.Factory, name string) error {
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	stream, err := c.Stream(ctx, client.VMI(namespace, name), "console", nil)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	restore, err := f.Streams.Raw()
	if err != nil {
		return err
	}
	defer restore()
	go func() { _, _ = io.Copy(stream, f.Streams.In) }()
	_, err = io.Copy(f.Streams.Out, stream)
	return err
}
