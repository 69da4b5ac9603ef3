package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"virtctl/embedded/internal/cluster"
	"virtctl/embedded/internal/node"
	"virtctl/embedded/internal/options"
)

func newServer() *cobra.Command {
	cmd := &cobra.Command{Use: "server", Short: "Run the cluster in the foreground", Args: cobra.NoArgs}
	settings := clusterFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if os.Geteuid() != 0 {
			return cluster.ErrNotRoot
		}
		o, err := settings()
		if err != nil {
			return err
		}
		progress := cluster.NewProgress()
		told, err := tellProgress(cmd.Context(), progress)
		if err != nil {
			return err
		}
		s, err := cluster.NewServer(o, progress)
		if err == nil {
			err = s.Run(cmd.Context())
		}
		progress.Fail(err)
		<-told
		return err
	}
	return cmd
}

// tellProgress writes the progress to the pipe of the 'up' that started this server, if one did. The channel closes when all is told.
func tellProgress(ctx context.Context, progress *cluster.Progress) (<-chan struct{}, error) {
	told := make(chan struct{})
	if os.Getenv(cluster.ProgressEnv) == "" {
		close(told)
		return told, nil
	}
	if err := os.Unsetenv(cluster.ProgressEnv); err != nil {
		return nil, err
	}
	syscall.CloseOnExec(cluster.ProgressFile)
	pipe := os.NewFile(cluster.ProgressFile, "progress")
	go func() {
		defer close(told)
		defer pipe.Close()
		if err := progress.Stream(pipe, func() {}, nil); err != nil {
			slog.DebugContext(ctx, "progress", "err", err) // 'up' was interrupted
		}
	}()
	return told, nil
}

func newUp() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Short: "Start the cluster in the background and wait until its nodes are ready", Args: cobra.NoArgs,
		Long: `Starts the cluster, or does nothing if it runs. Settings that are not given keep the values of the last start.`,
	}
	settings := clusterFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if os.Geteuid() != 0 {
			return cluster.ErrNotRoot
		}
		o, err := settings()
		if err != nil {
			return err
		}
		return cluster.Up(cmd.Context(), o, cmd.ErrOrStderr())
	}
	return cmd
}

func newDown() *cobra.Command {
	cmd := &cobra.Command{
		Use: "down", Short: "Stop the cluster and leave nothing but its state", Args: cobra.NoArgs,
		Long: `Stops every process of the cluster and removes its links, routes, tables, mounts, namespaces, cgroups and loop devices, also
after the server was killed. The state stays unless --purge is given.`,
	}
	stateDir := stateDirFlag(cmd)
	purge := cmd.Flags().Bool("purge", false, "remove the state too: objects, images, volumes, certificates, logs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if os.Geteuid() != 0 {
			return cluster.ErrNotRoot
		}
		o, err := options.Load(*stateDir)
		if errors.Is(err, options.ErrNoCluster) {
			fmt.Fprintf(cmd.ErrOrStderr(), "no embedded cluster in %s: nothing to do\n", *stateDir)
			return nil
		}
		if err != nil {
			return err
		}
		return cluster.Down(cmd.Context(), o, *purge, cmd.ErrOrStderr())
	}
	return cmd
}

func newNodeInit() *cobra.Command {
	cmd := &cobra.Command{Use: cluster.NodeInit, Hidden: true, Args: cobra.NoArgs}
	stateDir := stateDirFlag(cmd)
	name := cmd.Flags().String("name", "", "name of the node")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o, err := options.Load(*stateDir)
		if err != nil {
			return err
		}
		return node.Run(cmd.Context(), o, *name)
	}
	return cmd
}
