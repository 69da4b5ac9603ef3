// Package guestinfo reads what a guest agent tells. The commands guestosinfo, userlist and fslist are instances of it.
package guestinfo

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/target"
)

// Question is one thing to ask the agent.
type Question struct {
	// Use, Short and Example are the command's texts.
	Use, Short, Example string
	// Subresource answers it.
	Subresource string
	// Table lays the answer out for people; the answer is given decoded.
	Table func(answer map[string]any) output.Grid
}

// NewCmd makes a command that asks the question.
func NewCmd(f *factory.Factory, q Question) *cobra.Command {
	out := &output.Flag{}
	cmd := &cobra.Command{
		Use:               q.Use,
		Short:             q.Short,
		Long:              q.Short + ".\n\nThe guest agent must run in the guest.",
		Example:           q.Example,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VMI),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, q, out, args[0])
		},
	}
	out.Bind(cmd, output.JSON, output.JSON, output.YAML, output.Table, output.Path)
	return cmd
}

// Run asks.
func Run(ctx context.Context, f *factory.Factory, q Question, out *output.Flag, name string) error {
	if err := out.Check(); err != nil {
		return err
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	t, err := target.ParseOne(target.VMI, namespace, name)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	vmi := client.VMI(t.Namespace, t.Name)
	body, err := c.Read(ctx, vmi, q.Subresource, nil)
	if err != nil {
		return fmt.Errorf("cannot ask the guest agent of %s: %w", t.Name, target.Explain(ctx, c, vmi, err))
	}
	answer := map[string]any{}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("read the guest agent's answer: %w", err)
	}
	if out.IsTable() {
		return q.Table(answer).Print(f.Streams)
	}
	return out.Value(f.Streams, answer)
}

// Items gives the rows of a list answer.
func Items(answer map[string]any, row func(item map[string]any) []string) [][]string {
	items, _ := answer["items"].([]any)
	var rows [][]string
	for _, one := range items {
		if item, ok := one.(map[string]any); ok {
			rows = append(rows, row(item))
		}
	}
	return rows
}

// Text gives a field as text.
func Text(item map[string]any, field string) string {
	if text, ok := item[field].(string); ok && text != "" {
		return text
	}
	return "-"
}
