// Package addsshkey is the command that gives a guest's user an SSH key.
package addsshkey

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/credentials/access"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	access.Options
	Key          access.Key
	CreateSecret bool
	UpdateSecret bool
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "add-ssh-key VM --user USER (--file FILE | --value KEY)",
		Short: "Give a guest's user an SSH key",
		Long: `Give a guest's user an SSH key.

The key goes into the Secret that the machine names for the user, and reaches a running guest through its agent. Where there is none, one is
made and named in the machine, which a running guest sees after a restart.`,
		Example: `  # alice may log in to web with this key
  {{ProgramName}} credentials add-ssh-key web --user alice --file ~/.ssh/id_ed25519.pub`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: target.CompleteOne(f, target.VM),
		RunE: func(cmd *cobra.Command, args []string) error { return Run(cmd.Context(), f, opts, args[0]) },
	}
	opts.Bind(cmd)
	opts.Key.Bind(cmd)
	cmd.Flags().BoolVar(&opts.CreateSecret, "create-secret", false, "Make a new Secret even if the machine has one for the user")
	cmd.Flags().BoolVar(&opts.UpdateSecret, "update-secret", false, "Fail rather than make a new Secret")
	cmd.MarkFlagsMutuallyExclusive("create-secret", "update-secret")
	return cmd
}

// Run adds the key.
func Run(ctx context.Context, f *factory.Factory, opts *Options, arg string) error {
	key, err := opts.Key.Read(f.Streams.In)
	if err != nil {
		return err
	}
	m, err := access.Load(ctx, f, arg)
	if err != nil {
		return err
	}
	names := m.KeySecrets(opts.User)
	if opts.CreateSecret || len(names) == 0 && !opts.UpdateSecret {
		return opts.create(ctx, f, m, key)
	}
	if len(names) == 0 {
		return problem.New(problem.NotFound, "no secrets specified for user: %s; leave --update-secret out to have one made", opts.User)
	}
	name, err := opts.Choose(names)
	if err != nil {
		return err
	}
	changed, err := m.Change(ctx, &opts.Options, name, func(data map[string][]byte) map[string]any {
		if len(access.Entries(data, key)) > 0 {
			return nil
		}
		return map[string]any{"ssh-key-" + rand.String(5): []byte(key)}
	})
	switch {
	case err != nil:
		return err
	case !changed:
		f.Streams.Print("Secret %q already contains this SSH key.\n", name)
	default:
		f.Streams.Print("Successfully added the key to secret %q\n", name)
	}
	return nil
}

// create makes a Secret of the machine's own and names it in the machine.
func (o *Options) create(ctx context.Context, f *factory.Factory, m *access.Machine, key string) error {
	vm := m.VM
	_, err := m.Client.VMIs(vm.Namespace).Get(ctx, vm.Name)
	running := err == nil
	switch {
	case running && !o.Force:
		return problem.New(problem.Conflict, "VM %s is running, and a new secret reaches the guest only after a restart: say --force to add it all the same, or stop the machine first", vm.Name)
	case err != nil && !apierrors.IsNotFound(err):
		return fmt.Errorf("error when getting virtual machine instance: %w", err)
	}
	secret := &corev1.Secret{Data: map[string][]byte{"ssh-key-" + rand.String(5): []byte(key)}}
	secret.Namespace, secret.Name = vm.Namespace, o.Secret
	if secret.Name == "" {
		secret.Name = vm.Name + "-ssh-key-" + rand.String(6)
	}
	kind := client.VirtualMachine()
	controller := true
	secret.OwnerReferences = []metav1.OwnerReference{{APIVersion: kind.GroupVersion(), Kind: kind.Kind, Name: vm.Name, UID: vm.UID, Controller: &controller}}
	stored, err := m.Client.Secrets(vm.Namespace).Create(ctx, secret, false)
	if err != nil {
		return fmt.Errorf("error creating secret: %w", err)
	}
	if err := o.name(ctx, m, stored.Name); err != nil {
		return fmt.Errorf("error patching virtual machine: %w; the secret %s is left without use", err, stored.Name)
	}
	f.Streams.Print("Successfully added the key to the new secret %q of VM %s\n", stored.Name, vm.Name)
	if running {
		f.Streams.Say("the guest sees it after a restart: \"%s restart %s -n %s\"\n", f.Program, vm.Name, vm.Namespace)
	}
	return nil
}

// name adds the Secret to the machine's credentials, unless somebody else changes them at the same moment.
func (o *Options) name(ctx context.Context, m *access.Machine, secret string) error {
	credential := kubevirtv1.AccessCredential{SSHPublicKey: &kubevirtv1.SSHPublicKeyAccessCredential{
		Source: kubevirtv1.SSHPublicKeyAccessCredentialSource{Secret: &kubevirtv1.AccessCredentialSecretSource{SecretName: secret}},
		PropagationMethod: kubevirtv1.SSHPublicKeyAccessCredentialPropagationMethod{
			QemuGuestAgent: &kubevirtv1.QemuGuestAgentSSHPublicKeyAccessCredentialPropagation{Users: []string{o.User}},
		},
	}}
	const path = "/spec/template/spec/accessCredentials"
	before := m.VM.Spec.Template.Spec.AccessCredentials
	steps := []map[string]any{{"op": "test", "path": path, "value": before}, {"op": "add", "path": path + "/-", "value": credential}}
	if len(before) == 0 {
		steps = []map[string]any{
			{"op": "test", "path": "/metadata/resourceVersion", "value": m.VM.ResourceVersion},
			{"op": "add", "path": path, "value": []any{credential}},
		}
	}
	patch, err := json.Marshal(steps)
	if err != nil {
		return err
	}
	_, err = m.Client.VMs(m.VM.Namespace).Patch(ctx, m.VM.Name, types.JSONPatchType, patch)
	return err
}
