// Package output prints objects the way the user asked for with -o.
package output

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/util/jsonpath"
	sigsjson "sigs.k8s.io/json"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/terminal"
)

// The formats.
const (
	Table = "table"
	Wide  = "wide"
	JSON  = "json"
	YAML  = "yaml"
	Name  = "name"
	Path  = "jsonpath"
)

// Flag is the -o flag.
type Flag struct {
	Format  string
	allowed []string
}

// Bind adds -o with the formats a command knows.
func (o *Flag) Bind(cmd *cobra.Command, fallback string, allowed ...string) {
	o.allowed = allowed
	cmd.Flags().StringVarP(&o.Format, "output", "o", fallback, "Output format: "+strings.Join(o.shown(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.shown(), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
}

func (o *Flag) shown() []string {
	shown := slices.Clone(o.allowed)
	for i, format := range shown {
		if format == Path {
			shown[i] = "jsonpath="
		}
	}
	return shown
}

// Check reports an unknown format.
func (o *Flag) Check() error {
	if o.Format == "" {
		return nil
	}
	kind, expression, isPath := strings.Cut(o.Format, "=")
	if slices.Contains(o.allowed, kind) && isPath == (kind == Path) {
		if isPath {
			_, err := parsePath(expression)
			return err
		}
		return nil
	}
	return problem.Usagef("output format %q is not known here: use one of %s", o.Format, strings.Join(o.shown(), ", "))
}

// IsTable tells whether people, not programs, will read the output.
func (o *Flag) IsTable() bool { return o.Format == "" || o.Format == Table || o.Format == Wide }

// Object prints one object in a format that is not a table.
func (o *Flag) Object(streams *terminal.Streams, kind client.Kind, name string, obj any) error {
	if o.Format == Name {
		streams.Print("%s\n", kind.Name(name))
		return nil
	}
	return o.Value(streams, obj)
}

// Value prints any data as json, yaml or through a jsonpath.
func (o *Flag) Value(streams *terminal.Streams, value any) error {
	plain, err := Plain(value)
	if err != nil {
		return err
	}
	switch format, expression, _ := strings.Cut(o.Format, "="); format {
	case JSON:
		return through(streams, &printers.JSONPrinter{}, plain)
	case Path:
		parsed, err := parsePath(expression)
		if err != nil {
			return err
		}
		if err := parsed.Execute(streams.Out, plain); err != nil {
			return problem.Usagef("jsonpath %s: %w", expression, err)
		}
		streams.Print("\n")
	default:
		return through(streams, &printers.YAMLPrinter{}, plain)
	}
	return nil
}

// through prints with kubectl's own printers, so that both write the same text.
func through(streams *terminal.Streams, printer printers.ResourcePrinter, plain any) error {
	body, err := json.Marshal(plain)
	if err != nil {
		return fmt.Errorf("encode for printing: %w", err)
	}
	if err := printer.PrintObj(&runtime.Unknown{Raw: body}, streams.Out); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func parsePath(expression string) (*jsonpath.JSONPath, error) {
	if !strings.HasPrefix(expression, "{") {
		expression = "{" + strings.TrimPrefix(expression, "$") + "}"
	}
	parsed := jsonpath.New("output").AllowMissingKeys(true)
	if err := parsed.Parse(expression); err != nil {
		return nil, problem.Usagef("jsonpath %s: %w", expression, err)
	}
	return parsed, nil
}

// Plain turns a typed object into maps without what only clutters: empty creation times, empty status, managed fields.
func Plain(value any) (any, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode for printing: %w", err)
	}
	var plain any
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts(body, &plain); err != nil {
		return nil, fmt.Errorf("encode for printing: %w", err)
	}
	tidy(plain)
	return plain, nil
}

func tidy(value any) {
	switch typed := value.(type) {
	case map[string]any:
		for key, child := range typed {
			switch key {
			case "creationTimestamp":
				if child == nil {
					delete(typed, key)
				}
			case "managedFields":
				delete(typed, key)
			case "status", "metadata":
				if empty, ok := child.(map[string]any); ok {
					tidy(child)
					if len(empty) == 0 {
						delete(typed, key)
					}
				}
			default:
				tidy(child)
			}
		}
	case []any:
		for _, child := range typed {
			tidy(child)
		}
	}
}
