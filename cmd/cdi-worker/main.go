// Command cdi-worker fills claims: it is what runs in CDI's importer, upload and clone pods, one subcommand each.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
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
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: cdi-worker import|upload-server|clone-source|--version")
		return 2
	}
	if args[1] == "--version" {
		fmt.Println(version.Version())
		return 0
	}
	return worker.Standard().Run(ctx, args[1])
}
