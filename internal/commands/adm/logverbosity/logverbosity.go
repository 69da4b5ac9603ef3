// Package logverbosity is the command that shows and changes how much the platform's components log.
package logverbosity

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
)

const (
	// standard is the verbosity of a component for which nothing is set.
	standard = 2
	highest  = 9
	// show is what a flag without a value means.
	show = "show"
)

// components are the flags, in the order in which they are printed.
func components() []string {
	return []string{"virt-api", "virt-controller", "virt-handler", "virt-launcher", "virt-operator"}
}

// Options are what the command line says.
type Options struct {
	levels map[string]*string
	all    string
	Reset  bool
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{levels: map[string]*string{}}
	cmd := &cobra.Command{
		Use:   "log-verbosity [--COMPONENT[=LEVEL]]... [--all[=LEVEL]] [--reset]",
		Short: "Show or change how much the platform's components log",
		Long: `Show or change how much the platform's components log.

A flag without a value shows a component's level, one with a value from 0 to 9 sets it. --reset takes back what was set before
anything else is done.`,
		Example: `  # Show all levels
  {{ProgramName}} adm log-verbosity --all

  # Set one
  {{ProgramName}} adm log-verbosity --virt-handler=7

  # Everything back to the standard
  {{ProgramName}} adm log-verbosity --reset`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), f, opts) },
	}
	flags := cmd.Flags()
	for _, name := range components() {
		opts.levels[name] = flags.String(name, "", "Level of "+name)
		flags.Lookup(name).NoOptDefVal = show
	}
	flags.StringVar(&opts.all, "all", "", "Level of all components")
	flags.Lookup("all").NoOptDefVal = show
	flags.BoolVar(&opts.Reset, "reset", false, "Take back what was set")
	return cmd
}

// plan sorts the flags into what to show and what to set.
func (o *Options) plan() (shown []string, set map[string]uint, err error) {
	set = map[string]uint{}
	for _, name := range components() {
		value := *o.levels[name]
		if value == "" {
			value = o.all
		}
		switch value {
		case "":
			continue
		case show:
			shown = append(shown, name)
			continue
		}
		level, err := strconv.ParseUint(value, 10, 8)
		if err != nil || level > highest {
			return nil, nil, problem.Usagef("the log verbosity of %s must be a number between 0 and %d, not %q", name, highest, value)
		}
		set[name] = uint(level)
	}
	switch {
	case len(shown) > 0 && (len(set) > 0 || o.Reset):
		return nil, nil, problem.Usagef("only show or set log verbosity: a flag without a value shows, so it cannot stand beside one with a value or --reset")
	case len(shown) == 0 && len(set) == 0 && !o.Reset:
		return nil, nil, problem.Usagef("say what to do: --all shows, --all=LEVEL sets, --reset takes back")
	}
	return shown, set, nil
}

// Run shows or sets.
func Run(ctx context.Context, f *factory.Factory, opts *Options) error {
	shown, set, err := opts.plan()
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	list, err := c.KubeVirts("").List(ctx, client.ListOptions{})
	if err != nil {
		return fmt.Errorf("cannot read the platform's configuration: %w", err)
	}
	if len(list.Items) == 0 {
		return problem.New(problem.NotFound, "could not detect a KubeVirt installation: see \"virtctl status\"")
	}
	kv := &list.Items[0]
	levels := levelsOf(kv)
	if len(shown) > 0 {
		for _, name := range shown {
			level := standard
			if value, ok := levels[field(name)].(float64); ok && value > 0 {
				level = int(value)
			}
			f.Streams.Print("%s=%d\n", name, level)
		}
		return nil
	}
	change := map[string]any{}
	if opts.Reset {
		for _, name := range components() {
			change[field(name)] = nil
		}
	}
	for name, level := range set {
		change[field(name)] = level
	}
	if err := patch(ctx, c, kv, change); err != nil {
		return err
	}
	done := "set"
	if opts.Reset && len(set) == 0 {
		done = "reset"
	}
	f.Streams.Print("successfully %s the log verbosity\n", done)
	return nil
}

// field is the name of a component in the configuration: virt-api is virtAPI.
func field(component string) string {
	return map[string]string{
		"virt-api": "virtAPI", "virt-controller": "virtController", "virt-handler": "virtHandler",
		"virt-launcher": "virtLauncher", "virt-operator": "virtOperator",
	}[component]
}

func levelsOf(kv *kubevirtv1.KubeVirt) map[string]any {
	levels := map[string]any{}
	developer := kv.Spec.Configuration.DeveloperConfiguration
	if developer == nil || developer.LogVerbosity == nil {
		return levels
	}
	body, err := json.Marshal(developer.LogVerbosity)
	if err != nil || json.Unmarshal(body, &levels) != nil {
		return map[string]any{}
	}
	return levels
}

// patch changes only the levels that are named; null takes one away.
func patch(ctx context.Context, c *client.Client, kv *kubevirtv1.KubeVirt, levels map[string]any) error {
	body, err := json.Marshal(map[string]any{"spec": map[string]any{"configuration": map[string]any{
		"developerConfiguration": map[string]any{"logVerbosity": levels},
	}}})
	if err != nil {
		return fmt.Errorf("encode the change: %w", err)
	}
	if _, err := c.KubeVirts(kv.Namespace).Patch(ctx, kv.Name, types.MergePatchType, body); err != nil {
		return fmt.Errorf("cannot change the log verbosity: %w", err)
	}
	return nil
}
