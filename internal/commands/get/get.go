// Package get is the command that lists things.
package get

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	Output        output.Flag
	Selector      string
	AllNamespaces bool
	Watch         bool
	ShowLabels    bool
	NoHeaders     bool
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "get TYPE [NAME...]",
		Short: "List virtual machines and what belongs to them",
		Long:  "List virtual machines and what belongs to them.\n\nTypes:\n" + typeHelp(),
		Example: `  # The virtual machines of the namespace, with address, node and size
  {{ProgramName}} get vms -o wide

  # Those of all namespaces, as they change
  {{ProgramName}} get vms -A -w

  # The address of one machine
  {{ProgramName}} get vmi web -o jsonpath='{.status.interfaces[0].ipAddress}'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return problem.Usagef("say what to list: one of %s", strings.Join(typeNames(), ", "))
			}
			return nil
		},
		ValidArgsFunction: complete(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	opts.Output.Bind(cmd, output.Table, output.Table, output.Wide, output.JSON, output.YAML, output.Name, output.Path)
	flags := cmd.Flags()
	flags.StringVarP(&opts.Selector, "selector", "l", "", "Choose by label, for example app=web or 'tier in (a,b)'")
	flags.BoolVarP(&opts.AllNamespaces, "all-namespaces", "A", false, "List the objects of every namespace")
	flags.BoolVarP(&opts.Watch, "watch", "w", false, "Go on listing whatever changes")
	flags.BoolVar(&opts.ShowLabels, "show-labels", false, "Show the labels as the last column")
	flags.BoolVar(&opts.NoHeaders, "no-headers", false, "Leave the head line out")
	return cmd
}

func complete(f *factory.Factory) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return slices.DeleteFunc(typeNames(), func(n string) bool { return !strings.HasPrefix(n, typed) }), cobra.ShellCompDirectiveNoFileComp
		}
		if kind, ok := target.KindOf(args[0]); ok {
			return target.Names(cmd.Context(), f, kind, typed, args[1:]), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

func (o *Options) check(args []string) error {
	if err := o.Output.Check(); err != nil {
		return err
	}
	switch {
	case len(args) > 1 && (o.Selector != "" || o.AllNamespaces):
		return problem.Usagef("names exclude --selector and --all-namespaces")
	case o.Watch && !o.Output.IsTable() && o.Output.Format != output.Name:
		return problem.Usagef("--watch prints lines: use it with -o table, wide or name")
	}
	if _, err := labels.Parse(o.Selector); err != nil {
		return problem.Usagef("--selector: %w", err)
	}
	return nil
}

// Run lists.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	if err := opts.check(args); err != nil {
		return err
	}
	word, names := args[0], args[1:]
	if kind, name, found := strings.Cut(word, "/"); found {
		word, names = kind, append([]string{name}, names...)
	}
	v, ok := find(word)
	if !ok {
		return problem.Usagef("type %q is not known here: use one of %s; \"kubectl get\" knows all others", word, strings.Join(typeNames(), ", "))
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	if opts.AllNamespaces {
		namespace = ""
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	q := &query{client: c, namespace: namespace, names: names, selector: opts.Selector, wide: opts.Output.Format == output.Wide, now: time.Now()}
	l := &listing{factory: f, options: opts, view: v, query: q}
	if opts.Watch {
		return l.watch(ctx)
	}
	return l.once(ctx)
}

// listing is one use of the command.
type listing struct {
	factory *factory.Factory
	options *Options
	view    view
	query   *query
}

func (l *listing) once(ctx context.Context) error {
	entries, err := l.view.fetch(ctx, l.query)
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", l.view.kind().Plural, err)
	}
	switch {
	case l.options.Output.Format == output.Name:
		for _, e := range entries {
			l.factory.Streams.Print("%s\n", l.view.kind().Name(e.name))
		}
		return nil
	case !l.options.Output.IsTable():
		return l.objects(entries)
	case len(entries) == 0:
		l.factory.Streams.Say("No %s%s.\n", l.view.kind().Plural, l.where())
		all := "cluster" + l.view.words()[0]
		if _, ok := find(all); ok {
			l.factory.Streams.Say("Those for every namespace: virtctl get %s\n", all)
		}
		return nil
	}
	grid := output.Grid{Head: l.head(), NoHead: l.options.NoHeaders}
	for _, e := range entries {
		grid.Rows = append(grid.Rows, l.row(e))
	}
	return grid.Print(l.factory.Streams)
}

func (l *listing) where() string {
	if l.query.namespace == "" || l.view.kind().Cluster {
		return ""
	}
	return fmt.Sprintf(" in namespace %q", l.query.namespace)
}

func (l *listing) objects(entries []entry) error {
	if len(l.query.names) == 1 && len(entries) == 1 {
		return l.options.Output.Value(l.factory.Streams, entries[0].object)
	}
	items := make([]any, 0, len(entries))
	for _, e := range entries {
		items = append(items, e.object)
	}
	return l.options.Output.Value(l.factory.Streams, map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

func (l *listing) namespaced() bool {
	return l.options.AllNamespaces && !l.view.kind().Cluster
}

func (l *listing) head() []string {
	head := l.view.head(l.query.wide)
	if l.namespaced() {
		head = append([]string{"NAMESPACE"}, head...)
	}
	if l.options.ShowLabels {
		head = append(head, "LABELS")
	}
	return head
}

func (l *listing) row(e entry) []string {
	row := e.cells
	if l.namespaced() {
		row = append([]string{e.namespace}, row...)
	}
	if l.options.ShowLabels {
		text := "<none>"
		if len(e.labels) > 0 {
			text = labels.FormatLabels(e.labels)
		}
		row = append(row, text)
	}
	return row
}

// watch prints a line for each object, then for each change; columns are as wide as a list of usual length needs.
func (l *listing) watch(ctx context.Context) error {
	const width = 18
	line := func(cells []string) {
		var b strings.Builder
		for i, cell := range cells {
			if i == len(cells)-1 {
				b.WriteString(cell)
				break
			}
			fmt.Fprintf(&b, "%-*s   ", width, cell)
		}
		l.factory.Streams.Print("%s\n", strings.TrimRight(b.String(), " "))
	}
	if l.options.Output.IsTable() && !l.options.NoHeaders {
		line(l.head())
	}
	err := l.view.follow(ctx, l.query, func(e entry) {
		if l.options.Output.Format == output.Name {
			l.factory.Streams.Print("%s\n", l.view.kind().Name(e.name))
			return
		}
		line(l.row(e))
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot watch %s: %w", l.view.kind().Plural, err)
	}
	// Watching ends by Ctrl+C: that is no error to speak of.
	return problem.Silent(problem.Interrupted)
}

// query says what to list.
type query struct {
	client    *client.Client
	namespace string
	names     []string
	selector  string
	wide      bool
	now       time.Time
}

// entry is one object.
type entry struct {
	namespace, name string
	labels          map[string]string
	object          any
	cells           []string
}
