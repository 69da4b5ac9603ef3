// Package options is the command that lists the flags which every command takes.
package options

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"virtctl/internal/commands/factory"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "options",
		Short: "List the flags that every command takes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := pflag.NewFlagSet("options", pflag.ContinueOnError)
			cmd.Root().PersistentFlags().VisitAll(func(flag *pflag.Flag) {
				shown := *flag
				shown.Hidden = false
				all.AddFlag(&shown)
			})
			f.Streams.Print("The following flags can be used with every command:\n\n%s", all.FlagUsages())
			return nil
		},
	}
}
