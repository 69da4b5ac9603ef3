package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"virtctl/embedded/internal/cluster"
	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/supervise"
)

func newStatus() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Show the cluster's components and nodes; exit 0 only if all run", Args: cobra.NoArgs}
	stateDir := stateDirFlag(cmd)
	output := cmd.Flags().StringP("output", "o", "table", "table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := options.Load(*stateDir)
		if err != nil {
			return err
		}
		st, err := cluster.NewClient(o).Status(cmd.Context())
		if err != nil {
			return err
		}
		if *output == "json" {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(st)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tSTATE\tPID\tRESTARTS\tLAST ERROR")
		healthy := st.Ready
		for _, u := range append(st.Units, st.Nodes...) {
			healthy = healthy && u.Running
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", u.Name, state(u), u.Pid, u.Restarts, u.Error)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if !healthy {
			return errors.New("not everything runs: the logs are in " + o.LogDir())
		}
		return nil
	}
	return cmd
}

func state(u supervise.Status) string {
	switch {
	case u.Ready:
		return "running"
	case u.Running:
		return "starting"
	default:
		return "stopped"
	}
}
