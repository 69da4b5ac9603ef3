// Package target turns what the user names on the command line into the virtual machines that are meant.
package target

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
)

// The two kinds a target can be.
const (
	VM  = "virtualmachines"
	VMI = "virtualmachineinstances"
)

// KindOf understands every way of writing a kind.
func KindOf(word string) (string, bool) {
	switch strings.ToLower(word) {
	case "vm", "vms", "virtualmachine", "virtualmachines", "virtualmachine.kubevirt.io", "virtualmachines.kubevirt.io":
		return VM, true
	case "vmi", "vmis", "virtualmachineinstance", "virtualmachineinstances",
		"virtualmachineinstance.kubevirt.io", "virtualmachineinstances.kubevirt.io":
		return VMI, true
	}
	return "", false
}

// Word is how a kind is called in sentences.
func Word(t client.Target) string {
	if t.Resource == VMI {
		return "VMI"
	}
	return "VM"
}

// Selection holds the flags that choose several targets at once.
type Selection struct {
	Selector      string
	All           bool
	AllNamespaces bool
}

// Bind adds the flags.
func (s *Selection) Bind(flags *pflag.FlagSet) {
	flags.StringVarP(&s.Selector, "selector", "l", "", "Choose by label, for example app=web or 'tier in (a,b)'")
	flags.BoolVar(&s.All, "all", false, "Choose all in the namespace")
	flags.BoolVarP(&s.AllNamespaces, "all-namespaces", "A", false, "With --selector or --all: in every namespace")
}

// Check reports a wrong combination of names and flags.
func (s *Selection) Check(args []string) error {
	chosen := s.Selector != "" || s.All
	switch {
	case len(args) > 0 && chosen:
		return problem.Usagef("name virtual machines or choose them with --selector or --all, not both")
	case len(args) == 0 && s.AllNamespaces && !chosen:
		return problem.Usagef("--all-namespaces needs --selector or --all, so that nobody stops a whole cluster by accident")
	case len(args) == 0 && !chosen:
		return problem.Usagef("name at least one virtual machine, or choose some with --selector or --all")
	case len(args) > 0 && s.AllNamespaces:
		return problem.Usagef("--all-namespaces cannot be used with names: write NAME with --namespace, or vm/NAME/NAMESPACE")
	}
	return nil
}

// Resolve gives the chosen targets; args name them as NAME, KIND/NAME, KIND/NAME/NAMESPACE or as KIND NAME....
func (s *Selection) Resolve(ctx context.Context, f *factory.Factory, kind string, args []string) ([]client.Target, error) {
	if err := s.Check(args); err != nil {
		return nil, err
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return nil, err
	}
	if len(args) > 0 {
		return Parse(kind, namespace, args)
	}
	if s.AllNamespaces {
		namespace = ""
	}
	c, err := f.Client()
	if err != nil {
		return nil, err
	}
	return list(ctx, c, Target{kind, namespace}, s.Selector)
}

// Target is a kind in a namespace.
type Target struct{ Kind, Namespace string }

func list(ctx context.Context, c *client.Client, in Target, selector string) ([]client.Target, error) {
	var found []client.Target
	opts := client.ListOptions{LabelSelector: selector}
	if in.Kind == VMI {
		vmis, err := c.VMIs(in.Namespace).List(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("list virtual machine instances: %w", err)
		}
		for _, vmi := range vmis.Items {
			found = append(found, client.VMI(vmi.Namespace, vmi.Name))
		}
	} else {
		vms, err := c.VMs(in.Namespace).List(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("list virtual machines: %w", err)
		}
		for _, vm := range vms.Items {
			found = append(found, client.VM(vm.Namespace, vm.Name))
		}
	}
	if len(found) == 0 {
		return nil, problem.New(problem.NotFound, "no virtual machine is chosen by %s: see which there are with \"virtctl get vms --show-labels\"", describe(in, selector))
	}
	return found, nil
}

func describe(in Target, selector string) string {
	text := "--all"
	if selector != "" {
		text = fmt.Sprintf("--selector %q", selector)
	}
	if in.Namespace != "" {
		text += fmt.Sprintf(" in namespace %q", in.Namespace)
	}
	return text
}

// Parse reads names; a leading word that is a kind holds for all that follow.
func Parse(kind, namespace string, args []string) ([]client.Target, error) {
	if len(args) > 1 {
		if leading, ok := KindOf(args[0]); ok {
			kind, args = leading, args[1:]
		}
	}
	seen := map[client.Target]bool{}
	targets := make([]client.Target, 0, len(args))
	for _, arg := range args {
		t, err := ParseOne(kind, namespace, arg)
		if err != nil {
			return nil, err
		}
		if !seen[t] {
			seen[t] = true
			targets = append(targets, t)
		}
	}
	return targets, nil
}

// ParseOne reads NAME, KIND/NAME or KIND/NAME/NAMESPACE.
func ParseOne(kind, namespace, arg string) (client.Target, error) {
	parts := strings.Split(arg, "/")
	if len(parts) > 1 {
		named, ok := KindOf(parts[0])
		if !ok {
			return client.Target{}, problem.Usagef("unsupported resource type %q in %q: write vm/NAME or vmi/NAME", parts[0], arg)
		}
		kind, parts = named, parts[1:]
	}
	if len(parts) > 2 || parts[0] == "" || len(parts) == 2 && parts[1] == "" {
		return client.Target{}, problem.Usagef("%q is not a name: write NAME, vm/NAME or vm/NAME/NAMESPACE", arg)
	}
	if len(parts) == 2 {
		namespace = parts[1]
	}
	return client.Target{Resource: kind, Namespace: namespace, Name: parts[0]}, nil
}

// Argument is how a target is named on the command line, whatever the current namespace is.
func Argument(t client.Target) string { return t.Name + " -n " + t.Namespace }
