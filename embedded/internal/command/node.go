package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"virtctl/embedded/internal/cluster"
	"virtctl/embedded/internal/component"
	"virtctl/embedded/internal/node"
	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/render"
)

func newNode() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Enter a node, stop and start it, cut its network"}
	for _, v := range []struct{ verb, short string }{
		{"start", "Start a stopped node and wait until it is ready"},
		{"stop", "Shut a node down: its pods get SIGTERM first"},
		{"kill", "Switch a node off: every process ends at once"},
		{"cut", "Take a node off the network"},
		{"heal", "Bring a node that was cut back to the network"},
	} {
		cmd.AddCommand(newNodeVerb(v.verb, v.short))
	}
	cmd.AddCommand(newNodeExec())
	return cmd
}

func newNodeVerb(verb, short string) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " NODE", Short: short, Args: cobra.ExactArgs(1)}
	stateDir := stateDirFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := options.Load(*stateDir)
		if err != nil {
			return err
		}
		return cluster.NewClient(o).Node(cmd.Context(), args[0], verb)
	}
	return cmd
}

func newNodeExec() *cobra.Command {
	cmd := &cobra.Command{Use: "exec NODE -- COMMAND [ARG...]", Short: "Run a command inside a node's namespaces", Args: cobra.MinimumNArgs(2)}
	stateDir := stateDirFlag(cmd)
	cmd.Flags().SetInterspersed(false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		pid, err := nodePid(cmd.Context(), *stateDir, args[0])
		if err != nil {
			return err
		}
		command := args[1:]
		if command[0] == "--" {
			command = command[1:]
		}
		if len(command) == 0 {
			return errors.New("no command: write it after --")
		}
		code, err := node.Exec(pid, command, nil)
		if err != nil {
			return err
		}
		if code != 0 {
			return exitCode(code)
		}
		return nil
	}
	return cmd
}

// nodePid finds process 1 of a running node.
func nodePid(ctx context.Context, stateDir, name string) (int, error) {
	o, err := options.Load(stateDir)
	if err != nil {
		return 0, err
	}
	st, err := cluster.NewClient(o).Status(ctx)
	if err != nil {
		return 0, err
	}
	var names []string
	for _, n := range st.Nodes {
		if n.Name == name && n.Running {
			return n.Pid, nil
		}
		if n.Name == name {
			return 0, fmt.Errorf("%s is not running: start it with 'virt-kube node start %s'", name, name)
		}
		names = append(names, n.Name)
	}
	return 0, fmt.Errorf("no node %q: there are %s", name, strings.Join(names, ", "))
}

// ctr is containerd's client on one node. Its own flags follow --node and --state-dir.
func ctr(args []string) int {
	stateDir, name := defaultStateDir(), options.NodeName(1)
	for len(args) > 0 {
		flag, value, inline := strings.Cut(args[0], "=")
		target := map[string]*string{"--node": &name, "--state-dir": &stateDir}[flag]
		if target == nil {
			break
		}
		if args = args[1:]; !inline {
			if len(args) == 0 {
				return complain(fmt.Errorf("%s needs a value", flag))
			}
			value, args = args[0], args[1:]
		}
		*target = value
	}
	pid, err := nodePid(context.Background(), stateDir, name)
	if err != nil {
		return complain(err)
	}
	// Inside the node, ctr's paths (fifos, mounts) are the node's; process 1 there is this program.
	command := append([]string{"/proc/1/exe", ctrInside}, args...)
	code, err := node.Exec(pid, command, []string{
		"CONTAINERD_ADDRESS=" + render.ContainerdSocket, "CONTAINERD_NAMESPACE=k8s.io",
	})
	if err != nil {
		return complain(err)
	}
	return code
}

// ctrInside is the first argument by which the program inside the node knows that it is ctr.
const ctrInside = "node-ctr"

func ctrMain(args []string) int {
	main, _ := component.Find("ctr")
	return main(append([]string{"ctr"}, args...))
}
