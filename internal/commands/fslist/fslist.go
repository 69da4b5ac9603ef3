// Package fslist is the command that tells which file systems a guest has mounted.
package fslist

import (
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/guestinfo"
	"virtctl/internal/commands/output"
)

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	return guestinfo.NewCmd(f, guestinfo.Question{
		Use:   "fslist VMI",
		Short: "Tell which file systems a guest has mounted",
		Example: `  # With their sizes, as a table
  {{ProgramName}} fslist web -o table`,
		Subresource: "filesystemlist",
		Table: func(answer map[string]any) output.Grid {
			return output.Grid{
				Head: []string{"MOUNTED-AT", "DISK", "TYPE", "USED", "SIZE"},
				Rows: guestinfo.Items(answer, func(item map[string]any) []string {
					return []string{
						guestinfo.Text(item, "mountPoint"), guestinfo.Text(item, "diskName"), guestinfo.Text(item, "fileSystemType"),
						bytes(item["usedBytes"]), bytes(item["totalBytes"]),
					}
				}),
			}
		},
	})
}

func bytes(value any) string {
	number, ok := value.(float64)
	if !ok {
		return "-"
	}
	const mebi = 1 << 20
	return resource.NewQuantity(int64(number)/mebi*mebi, resource.BinarySI).String()
}
