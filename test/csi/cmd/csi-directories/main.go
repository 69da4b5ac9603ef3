// Command csi-directories is a CSI driver for tests, with directories and loop devices of one node for volumes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"virtctl/test/csi/internal/driver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "csi-directories:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("csi-directories", flag.ContinueOnError)
	node := flags.String("node", os.Getenv("NODE_NAME"), "`name` of this node")
	socket := flags.String("socket", "", "`path` of the socket to answer on")
	data := flags.String("data", "", "`directory` of the volumes")
	plugins := flags.String("plugins", "", "the kubelet's `directory` of sockets of plugins; empty: do not register")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *node == "" || *socket == "" || *data == "" {
		return fmt.Errorf("-node, -socket and -data are needed")
	}
	d, err := driver.New(*node, *data)
	if err != nil {
		return err
	}
	return d.Serve(ctx, *socket, *plugins)
}
