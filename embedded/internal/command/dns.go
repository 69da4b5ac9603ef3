package command

import (
	"github.com/spf13/cobra"

	"virtctl/embedded/internal/cluster"
	"virtctl/embedded/internal/options"
)

func newDNS() *cobra.Command {
	cmd := &cobra.Command{Use: "dns", Short: "Stop and start the cluster's name service, to see what depends on it"}
	for _, v := range []struct{ verb, short string }{{"start", "Start the name service"}, {"stop", "Stop the name service"}} {
		sub := &cobra.Command{Use: v.verb, Short: v.short, Args: cobra.NoArgs}
		stateDir := stateDirFlag(sub)
		sub.RunE = func(cmd *cobra.Command, _ []string) error {
			o, err := options.Load(*stateDir)
			if err != nil {
				return err
			}
			return cluster.NewClient(o).Unit(cmd.Context(), "coredns", v.verb)
		}
		cmd.AddCommand(sub)
	}
	return cmd
}
