// Package userlist is the command that tells who is logged in to a guest.
package userlist

import (
	"time"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/guestinfo"
	"virtctl/internal/commands/output"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	return guestinfo.NewCmd(f, guestinfo.Question{
		Use:   "userlist VMI",
		Short: "Tell who is logged in to a guest",
		Example: `  # As a table
  {{ProgramName}} userlist web -o table`,
		Subresource: "userlist",
		Table: func(answer map[string]any) output.Grid {
			return output.Grid{
				Head: []string{"USER", "DOMAIN", "SINCE"},
				Rows: guestinfo.Items(answer, func(item map[string]any) []string {
					since := "-"
					if seconds, ok := item["loginTime"].(float64); ok {
						since = time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
					}
					return []string{guestinfo.Text(item, "userName"), guestinfo.Text(item, "domain"), since}
				}),
			}
		},
	})
}
