// Package status is the command that tells how the platform is doing.
package status

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	installcmd "virtctl/internal/commands/install"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/install"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	var out output.Flag
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how the platform is doing",
		Long: `Show every component with its desired and ready pods and its version, every node, and one verdict.

The exit code is 0 only if the platform is healthy.`,
		Example: `  # How is it, in words
  {{ProgramName}} status

  # In a script: go on only if all is well
  {{ProgramName}} status >/dev/null || exit 1

  # What is wrong, component by component
  {{ProgramName}} status -o jsonpath='{range .components[*]}{.name}: {.trouble}{"\n"}{end}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.Check(); err != nil {
				return err
			}
			return Run(cmd.Context(), f, &out)
		},
	}
	out.Bind(cmd, output.Table, output.Table, output.JSON, output.YAML, output.Path)
	return cmd
}

// Run reads and prints the state.
func Run(ctx context.Context, f *factory.Factory, out *output.Flag) error {
	namespace, err := installcmd.PlatformNamespace(f)
	if err != nil {
		return err
	}
	config, err := f.RESTConfig()
	if err != nil {
		return err
	}
	installer, err := install.New(config, install.Options{Namespace: namespace})
	if err != nil {
		return err
	}
	status, err := installer.Status(ctx)
	if err != nil {
		return err
	}
	if err := show(f, out, status); err != nil {
		return err
	}
	switch {
	case !status.Installed:
		return problem.Silent(problem.NotFound)
	case !status.Healthy:
		return problem.Silent(problem.Failure)
	}
	return nil
}

func show(f *factory.Factory, out *output.Flag, s *install.Status) error {
	if !out.IsTable() {
		return out.Value(f.Streams, s)
	}
	if s.Installed {
		components := output.Grid{Head: []string{"COMPONENT", "KIND", "DESIRED", "READY", "VERSION", "TROUBLE"}}
		for _, c := range s.Components {
			components.Rows = append(components.Rows, []string{
				c.Name, c.Kind, strconv.FormatInt(c.Desired, 10), strconv.FormatInt(c.Ready, 10), c.Version, c.Trouble,
			})
		}
		if err := components.Print(f.Streams); err != nil {
			return err
		}
		nodes := output.Grid{Head: []string{"NODE", "RUNS VMS", "PROCESSOR"}}
		for _, n := range s.Nodes {
			nodes.Rows = append(nodes.Rows, []string{n.Name, word(n.Schedulable, "yes", "no"), word(n.KVM, "hardware", "emulated")})
		}
		f.Streams.Print("\n")
		if err := nodes.Print(f.Streams); err != nil {
			return err
		}
		f.Streams.Print("\n")
	}
	_, err := fmt.Fprintln(f.Streams.Out, s.Verdict)
	return err
}

func word(truth bool, yes, no string) string {
	if truth {
		return yes
	}
	return no
}
