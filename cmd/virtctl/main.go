// Command virtctl gives a Kubernetes cluster virtual machines, and runs them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"virtctl/internal/commands"
	"virtctl/internal/commands/terminal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Who presses Ctrl+C twice means it.
	context.AfterFunc(ctx, stop)
	code := commands.Main(ctx, terminal.System(), os.Args)
	stop()
	os.Exit(code)
}
