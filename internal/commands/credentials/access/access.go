// Package access finds and changes the Secrets that hold the credentials of a guest's users.
package access

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what all commands about credentials take.
type Options struct {
	User   string
	Secret string
	Force  bool
}

// Bind adds the flags.
func (o *Options) Bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&o.User, "user", "u", "", "The guest's user")
	flags.StringVar(&o.Secret, "secret", "", "The Secret to change, where the machine has several for the user")
	flags.BoolVar(&o.Force, "force", false, "Change a Secret that does not belong to the machine: others may use it too")
	_ = cmd.MarkFlagRequired("user")
}

// Key is where an SSH key comes from.
type Key struct{ File, Value string }

// Bind adds the flags.
func (k *Key) Bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&k.File, "file", "f", "", "File with the public key; - reads it from a pipe")
	cmd.Flags().StringVar(&k.Value, "value", "", "The public key itself")
	cmd.MarkFlagsMutuallyExclusive("file", "value")
	cmd.MarkFlagsOneRequired("file", "value")
}

// Read gives the key.
func (k *Key) Read(in io.Reader) (string, error) {
	text := k.Value
	if k.File != "" {
		body, err := ReadFile(k.File, in)
		if err != nil {
			return "", problem.With(problem.Usage, fmt.Errorf("read the key: %w", err))
		}
		text = string(body)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", problem.Usagef("the key is empty")
	}
	if strings.Contains(text, "PRIVATE KEY") {
		return "", problem.Usagef("this is a private key, which must stay where it is: give the public one, whose file ends in .pub")
	}
	return text, nil
}

// ReadFile reads a small file, or the pipe when it is called "-".
func ReadFile(path string, in io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(in, 1<<20))
	}
	return os.ReadFile(path)
}

// Machine is a VM whose credentials are changed.
type Machine struct {
	Client *client.Client
	VM     *kubevirtv1.VirtualMachine
}

// Load reads the VM that the argument names.
func Load(ctx context.Context, f *factory.Factory, arg string) (*Machine, error) {
	namespace, _, err := f.Namespace()
	if err != nil {
		return nil, err
	}
	t, err := target.ParseOne(target.VM, namespace, arg)
	if err != nil {
		return nil, err
	}
	c, err := f.Client()
	if err != nil {
		return nil, err
	}
	vm, err := c.VMs(t.Namespace).Get(ctx, t.Name)
	if err != nil {
		return nil, target.Explain(ctx, c, t, err)
	}
	if vm.Spec.Template == nil {
		return nil, problem.New(problem.Conflict, "VM %s has no template", vm.Name)
	}
	return &Machine{Client: c, VM: vm}, nil
}

// KeySecrets names the Secrets whose keys the agent gives to the user.
func (m *Machine) KeySecrets(user string) []string {
	var found []string
	for _, credential := range m.VM.Spec.Template.Spec.AccessCredentials {
		key := credential.SSHPublicKey
		if key == nil || key.PropagationMethod.QemuGuestAgent == nil || key.Source.Secret == nil {
			continue
		}
		if slices.Contains(key.PropagationMethod.QemuGuestAgent.Users, user) && !slices.Contains(found, key.Source.Secret.SecretName) {
			found = append(found, key.Source.Secret.SecretName)
		}
	}
	return found
}

// PasswordSecrets names the Secrets whose passwords the agent sets.
func (m *Machine) PasswordSecrets() []string {
	var found []string
	for _, credential := range m.VM.Spec.Template.Spec.AccessCredentials {
		password := credential.UserPassword
		if password != nil && password.PropagationMethod.QemuGuestAgent != nil && password.Source.Secret != nil {
			found = append(found, password.Source.Secret.SecretName)
		}
	}
	return found
}

// Choose picks the one Secret to change.
func (o *Options) Choose(names []string) (string, error) {
	switch {
	case o.Secret != "" && !slices.Contains(names, o.Secret):
		return "", problem.New(problem.NotFound, "secret %s was not assigned: the machine names %s", o.Secret, strings.Join(names, ", "))
	case o.Secret != "":
		return o.Secret, nil
	case len(names) > 1:
		return "", problem.Usagef("multiple secrets specified, use option --secret to specify which secret to modify: one of %s", strings.Join(names, ", "))
	}
	return names[0], nil
}

// Change edits a Secret's data; what edit returns is merged into it, nil removes an entry. Nothing returned is nothing to do.
func (m *Machine) Change(ctx context.Context, o *Options, name string, edit func(map[string][]byte) map[string]any) (bool, error) {
	const tries = 5
	secrets := m.Client.Secrets(m.VM.Namespace)
	for try := 1; ; try++ {
		secret, err := secrets.Get(ctx, name)
		if err != nil {
			return false, fmt.Errorf("error getting secret %q: %w", name, err)
		}
		if !o.Force && !m.owns(secret) {
			return false, problem.New(problem.Conflict, "secret %s does not have an owner reference pointing to VM %s: other machines may use it; --force changes it all the same", name, m.VM.Name)
		}
		data := edit(secret.Data)
		if len(data) == 0 {
			return false, nil
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": secret.ResourceVersion}, "data": data})
		if err != nil {
			return false, fmt.Errorf("encode the change: %w", err)
		}
		_, err = secrets.Patch(ctx, name, types.MergePatchType, patch)
		if apierrors.IsConflict(err) && try < tries {
			continue // somebody else was faster: look again
		}
		if err != nil {
			return false, fmt.Errorf("error patching secret %q: %w", name, err)
		}
		return true, nil
	}
}

func (m *Machine) owns(secret *corev1.Secret) bool {
	return slices.ContainsFunc(secret.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == m.VM.UID })
}

// Entries gives the entries of a Secret that hold a key.
func Entries(data map[string][]byte, key string) []string {
	var found []string
	for name, value := range data {
		if bytes.Equal(bytes.TrimSpace(value), []byte(key)) {
			found = append(found, name)
		}
	}
	return found
}
