package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"virtctl/embedded/internal/cluster"
	"virtctl/embedded/internal/images"
	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/render"
)

func newImages() *cobra.Command {
	cmd := &cobra.Command{Use: "images", Short: "Give the nodes images"}
	load := &cobra.Command{
		Use: "load FILE.tar...", Short: "Import OCI or docker archives into every node", Args: cobra.MinimumNArgs(1),
		Long: `Imports archives (OCI layout or 'docker save') and unpacks them, on every running node or the one given. The kubelet never removes
them. Each image is known by its name and by its digest.`,
	}
	stateDir := stateDirFlag(load)
	only := load.Flags().String("node", "", "import on this node only")
	load.RunE = func(cmd *cobra.Command, args []string) error {
		return loadImages(cmd.Context(), *stateDir, *only, args, cmd.OutOrStdout())
	}
	cmd.AddCommand(load)
	return cmd
}

func loadImages(ctx context.Context, stateDir, only string, paths []string, out io.Writer) error {
	o, err := options.Load(stateDir)
	if err != nil {
		return err
	}
	st, err := cluster.NewClient(o).Status(ctx)
	if err != nil {
		return err
	}
	var group errgroup.Group
	results := make([][]string, 0, len(st.Nodes))
	for _, n := range st.Nodes {
		if only != "" && n.Name != only || only == "" && !n.Running {
			continue
		}
		if !n.Running {
			return fmt.Errorf("%s is not running: start it with 'virt-kube node start %s'", n.Name, n.Name)
		}
		results = append(results, nil)
		result := &results[len(results)-1]
		socket := fmt.Sprintf("/proc/%d/root%s", n.Pid, render.ContainerdSocket)
		group.Go(func() error {
			names, err := loadOn(ctx, socket, paths)
			*result = names
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(results) == 0 {
		return errors.New("no node to import into: see 'virt-kube status'")
	}
	_, err = fmt.Fprintln(out, strings.Join(slices.Compact(results[0]), "\n"))
	return err
}

func loadOn(ctx context.Context, socket string, paths []string) ([]string, error) {
	store, err := images.Open(socket)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	var names []string
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		loaded, err := store.Load(ctx, f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		names = append(names, loaded...)
	}
	return names, nil
}
