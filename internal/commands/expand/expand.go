// Package expand is the command that shows a machine with its instance type and preference filled in.
package expand

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	kubevirtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	VM     string
	File   string
	Output output.Flag
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "expand (--vm NAME | --file FILE)",
		Short: "Show a virtual machine with its instance type and preference filled in",
		Example: `  # A machine of the cluster
  {{ProgramName}} expand --vm web

  # A manifest
  {{ProgramName}} expand --file web.yaml

  # A manifest from a pipe
  {{ProgramName}} create vm --instancetype u1.small | {{ProgramName}} expand --file -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), f, opts) },
	}
	cmd.Flags().StringVar(&opts.VM, "vm", "", "Name of the virtual machine")
	cmd.Flags().StringVarP(&opts.File, "file", "f", "", "File with a VirtualMachine manifest in YAML or JSON; - is standard input")
	opts.Output.Bind(cmd, output.YAML, output.YAML, output.JSON, output.Path)
	cmd.MarkFlagsMutuallyExclusive("vm", "file")
	_ = cmd.RegisterFlagCompletionFunc("vm", func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return target.Names(cmd.Context(), f, target.VM, typed, nil), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// Run expands.
func Run(ctx context.Context, f *factory.Factory, opts *Options) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	if opts.VM == "" && opts.File == "" {
		return problem.Usagef("error invalid arguments - VirtualMachine name or file must be provided: use --vm or --file")
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	var expanded any
	if opts.VM != "" {
		vm := client.VM(namespace, opts.VM)
		object := &kubevirtv1.VirtualMachine{}
		if err := c.ReadInto(ctx, vm, "expand-spec", object); err != nil {
			return fmt.Errorf("cannot expand VM %s: %w", opts.VM, target.Explain(ctx, c, vm, err))
		}
		expanded = object
	} else {
		vm, err := readManifest(f.Streams.In, opts.File)
		if err != nil {
			return err
		}
		if vm.Namespace != "" {
			namespace = vm.Namespace
		}
		object, err := c.ExpandSpec(ctx, vm, namespace)
		if err != nil {
			return fmt.Errorf("cannot expand VM %s: %w", vm.Name, err)
		}
		expanded = object
	}
	return opts.Output.Value(f.Streams, expanded)
}

func readManifest(in io.Reader, file string) (*kubevirtv1.VirtualMachine, error) {
	var body []byte
	var err error
	if file == "-" {
		body, err = io.ReadAll(in)
	} else {
		body, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	return parseManifest(body)
}

func parseManifest(body []byte) (*kubevirtv1.VirtualMachine, error) {
	vm := &kubevirtv1.VirtualMachine{}
	if err := yaml.UnmarshalStrict(body, vm); err != nil {
		return nil, problem.Usagef("the manifest is not a VirtualMachine: %w", err)
	}
	if vm.Kind != "VirtualMachine" {
		return nil, problem.Usagef("the manifest is of kind %q, not VirtualMachine", vm.Kind)
	}
	return vm, nil
}
