// Command cdi-worker fills claims: it is what runs in CDI's importer, upload and clone pods, one subcommand each.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"virtctl/internal/cdi/worker"
	"virtctl/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args))
}

func run(ctx context.Context, args []string) int {
	// The node pull method copies this program into another image, under this name.
	if filepath.Base(args[0]) == "server" {
		return worker.NodePullServer(ctx, args[1:], os.Stderr)
	}
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: cdi-worker import|upload-server|clone-source|node-pull-server|copy-self PATH|--version")
		return 2
	}
	switch args[1] {
	case "--version", "version":
		fmt.Println(version.Version())
		return 0
	case "node-pull-server":
		return worker.NodePullServer(ctx, args[2:], os.Stderr)
	case "copy-self":
		return worker.CopySelf(args[2:], os.Stderr)
	}
	return worker.Standard().Run(ctx, args[1])
}
