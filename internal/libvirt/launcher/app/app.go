// Package app is the command line of virt-launcher.
package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"virtctl/internal/libvirt/launcher"
	"virtctl/internal/version"
)

// The launcher idles beside every guest: it trades a little CPU for memory.
const (
	gcPercent   = 30
	memoryLimit = 12 << 20
)

// Streams are what the program reads and writes.
type Streams struct{ Stdin, Stdout, Stderr *os.File }

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

const usage = `virt-launcher runs one virtual machine inside its pod.

Usage:
  virt-launcher                      serve virt-handler (what the pod does)
  virt-launcher probe --out DIR      find out what this node's QEMU can do (virt-handler's init container)
  virt-launcher agent-ping           exit 0 if the guest's agent answers (exec probe)
  virt-launcher agent-exec CMD...    run a command in the guest by its agent (exec probe)
  virt-launcher version
`

// Run is the program; it returns the exit code.
func Run(ctx context.Context, streams Streams, args []string) int {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "":
		return launcher.New(launcher.Options{Version: version.Version(), Stdout: streams.Stdout, Stderr: streams.Stderr}).Run(ctx)
	case "version":
		fmt.Fprintln(streams.Stdout, version.Version())
		return exitOK
	case "help", "--help", "-h":
		_, _ = io.WriteString(streams.Stdout, usage)
		return exitOK
	}
	fmt.Fprintf(streams.Stderr, "virt-launcher: unknown command %q\n\n%s", command, usage)
	return exitUsage
}
