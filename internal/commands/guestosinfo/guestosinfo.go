// Package guestosinfo is the command that tells which operating system a guest runs.
package guestosinfo

import (
	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/guestinfo"
	"virtctl/internal/commands/output"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	return guestinfo.NewCmd(f, guestinfo.Question{
		Use:   "guestosinfo VMI",
		Short: "Tell which operating system a guest runs",
		Example: `  # All that the guest agent tells
  {{ProgramName}} guestosinfo web

  # The operating system's name
  {{ProgramName}} guestosinfo web -o jsonpath={.os.prettyName}`,
		Subresource: "guestosinfo",
		Table: func(answer map[string]any) output.Grid {
			os, _ := answer["os"].(map[string]any)
			return output.Grid{
				Head: []string{"HOSTNAME", "OS", "KERNEL", "TIMEZONE", "AGENT"},
				Rows: [][]string{{
					guestinfo.Text(answer, "hostname"), guestinfo.Text(os, "prettyName"), guestinfo.Text(os, "kernelRelease"),
					guestinfo.Text(answer, "timezone"), guestinfo.Text(answer, "guestAgentVersion"),
				}},
			}
		},
	})
}
