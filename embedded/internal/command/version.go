package command

import (
	"fmt"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// parts are the modules whose versions users ask for.
func parts() map[string]string {
	return map[string]string{
		"k8s.io/kubernetes":                      "Kubernetes",
		"go.etcd.io/etcd/server/v3":              "etcd",
		"github.com/containerd/containerd/v2":    "containerd",
		"github.com/coredns/coredns":             "CoreDNS",
		"github.com/containernetworking/plugins": "CNI plugins",
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the versions of what virt-kube is made of", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return fmt.Errorf("built without version information: build it with 'make virt-kube'")
			}
			for _, m := range info.Deps {
				if name, wanted := parts()[m.Path]; wanted {
					fmt.Fprintf(w, "%s\t%s\n", name, m.Version)
				}
			}
			return w.Flush()
		},
	}
}
