package command

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"virtctl/embedded/internal/component"
	"virtctl/embedded/internal/options"
)

// kubectl is kubectl, on the embedded cluster unless the user has said which.
func kubectl(args []string) int {
	args = append([]string{"kubectl"}, args[1:]...)
	if os.Getenv("KUBECONFIG") == "" {
		path := options.Options{StateDir: defaultStateDir()}.Kubeconfig()
		if _, err := os.Stat(path); err == nil {
			if err := os.Setenv("KUBECONFIG", path); err != nil {
				return complain(err)
			}
		}
	}
	main, _ := component.Find("kubectl")
	return main(args)
}

func complain(err error) int {
	fmt.Fprintf(os.Stderr, "virt-kube: %v\n", err)
	return 1
}

func newKubeconfig() *cobra.Command {
	cmd := &cobra.Command{Use: "kubeconfig", Short: "Print the path of the administrator's kubeconfig", Args: cobra.NoArgs}
	stateDir := stateDirFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := options.Load(*stateDir)
		if err != nil {
			return err
		}
		if _, err := os.Stat(o.Kubeconfig()); err != nil {
			return errors.Join(err, options.ErrNoCluster)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), o.Kubeconfig())
		return err
	}
	return cmd
}
