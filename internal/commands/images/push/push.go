// Package push is the command that sends images to a registry.
package push

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/images"
)

// Options are what the command line says.
type Options struct {
	Registry, Tag string
	Insecure      bool
	Output        output.Flag
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "push FILE... --registry HOST[:PORT][/PATH]",
		Short: "Send images to a registry",
		Long: `Send images to a registry. Layers that it has are not sent again. Credentials are those of docker login, podman login or the like
(~/.docker/config.json). Afterwards: {{ProgramName}} install --registry HOST/PATH.`,
		Example: `  # The platform's images for a cluster of one's own
  {{ProgramName}} images push out/images/*.tar --registry harbor.example.org/virt`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, opts, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Registry, "registry", "", "Where to: the registry, and the path in it")
	flags.StringVar(&opts.Tag, "tag", "", "Tag in the registry; default each image's own")
	flags.BoolVar(&opts.Insecure, "insecure", false, "The registry speaks plain HTTP, or has a certificate that nobody knows")
	opts.Output.Bind(cmd, "", output.JSON, output.YAML)
	_ = cmd.MarkFlagRequired("registry")
	return cmd
}

// Run pushes.
func Run(ctx context.Context, f *factory.Factory, opts *Options, files []string) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	progress := f.Streams.Err
	if !opts.Output.IsTable() {
		progress = io.Discard
	}
	var done []images.Pushed
	var failed []error
	for _, file := range files {
		pushed, err := images.Push(ctx, file, opts.Registry, images.PushOptions{Insecure: opts.Insecure, Tag: opts.Tag, Progress: progress})
		if err != nil {
			// A registry's error says nothing of the cluster, nor do hints about it.
			failed = append(failed, problem.New(problem.Failure, "%s", err))
		}
		done = append(done, pushed...)
	}
	if !opts.Output.IsTable() {
		if err := opts.Output.Value(f.Streams, done); err != nil {
			return err
		}
	} else {
		for _, p := range done {
			f.Streams.Print("%s@%s\n", p.Ref, p.Digest)
		}
	}
	return problem.Join(f.Streams, f.Program, failed)
}
