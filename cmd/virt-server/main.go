// Command virt-server is every cluster-side role of the platform, one subcommand each.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"virtctl/internal/server/api"
	cdiapiserver "virtctl/internal/server/cdi/apiserver"
	cdicontroller "virtctl/internal/server/cdi/controller"
	cdioperator "virtctl/internal/server/cdi/operator"
	cdiuploadproxy "virtctl/internal/server/cdi/uploadproxy"
	"virtctl/internal/server/controller"
	"virtctl/internal/server/operator"
	"virtctl/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := &cobra.Command{
		Use: "virt-server", Short: "The cluster-side roles of virtctl", Version: version.Version(),
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(operator.Command(), api.Command(), controller.Command(),
		cdioperator.Command(), cdiapiserver.Command(), cdiuploadproxy.Command(), cdicontroller.Command())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
