// Package vm is the command that makes virtual machines.
package vm

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Create a VirtualMachine manifest, or the machine itself",
		Long: `Create a VirtualMachine manifest, or the machine itself.

Without --apply, --start or --wait the manifest is printed and no cluster is asked. If no boot order is given, the machine boots
from the first of its volumes in this order: container disks, claims, data sources, cloned claims, blank volumes, imports.

Lists of parameters are written key:value,key:value.`,
		Example:           examples,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.changed = cmd.Flags().Changed
			return Run(cmd.Context(), f, opts)
		},
	}
	opts.bind(f, cmd)
	return cmd
}

const examples = `  # Print a manifest with a container disk and apply it
  {{ProgramName}} create vm --name web --memory 1Gi --volume-containerdisk src:quay.io/containerdisks/fedora:latest | kubectl create -f -

  # Create a machine, start it and wait until it runs
  {{ProgramName}} create vm --name web --volume-containerdisk src:quay.io/containerdisks/fedora:latest --start --wait

  # Two processors, UEFI with secure boot, a TPM, two network cards
  {{ProgramName}} create vm --name win --cpu 2 --memory 4Gi --firmware uefi-secure --tpm=persistent \
    --network pod --network src:default/vlan10,model:e1000e --volume-pvc src:windows-disk

  # A new volume filled from an HTTP server
  {{ProgramName}} create vm --volume-import type:http,url:https://example.com/disk.qcow2,size:20Gi --storage-class fast

  # A user with an SSH key
  {{ProgramName}} create vm --user alice --ssh-key "$(cat ~/.ssh/id_ed25519.pub)" --volume-pvc src:disk

  # Cloud-init from a plain file
  {{ProgramName}} create vm --volume-pvc src:disk --cloud-init-user-data-file user-data.yaml

  # Instance type and preference by name, or taken from the boot volume
  {{ProgramName}} create vm --instancetype u1.small --preference fedora --volume-pvc src:disk
  {{ProgramName}} create vm --infer-instancetype --infer-preference --volume-import type:ds,src:golden/fedora`

// Run makes the machine.
func Run(ctx context.Context, f *factory.Factory, opts *Options) error {
	if err := opts.check(); err != nil {
		return err
	}
	namespace, explicit, err := opts.namespace(f)
	if err != nil {
		return err
	}
	vm, err := opts.build(f.Streams)
	if err != nil {
		return err
	}
	if explicit {
		vm.Namespace = namespace
	}
	if opts.Apply.wanted() {
		return opts.apply(ctx, f, namespace, vm)
	}
	return opts.Output.Object(f.Streams, client.VirtualMachine(), vm.Name, vm)
}

// namespace asks the kubeconfig; printing a manifest works without one.
func (o *Options) namespace(f *factory.Factory) (string, bool, error) {
	namespace, explicit, err := f.Namespace()
	if err != nil && !o.Apply.wanted() && !o.changed("kubeconfig") && !o.changed("context") {
		return "", false, nil
	}
	return namespace, explicit, err
}

func (o *Options) check() error {
	if err := o.Output.Check(); err != nil {
		return err
	}
	if o.Output.Format == "" && !o.Apply.wanted() {
		o.Output.Format = output.YAML
	}
	if i := slices.IndexFunc(runStrategies(), func(known string) bool { return strings.EqualFold(known, o.RunStrategy) }); i >= 0 {
		o.RunStrategy = runStrategies()[i]
	}
	return o.Apply.check(o)
}
