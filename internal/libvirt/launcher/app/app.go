// Package app is the command line of virt-launcher.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"virtctl/internal/libvirt/daemon"
	"virtctl/internal/libvirt/launcher"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/probe"
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
  virt-launcher hold                 hold a volume that is plugged into a virtual machine (what an attachment pod does)
  virt-launcher fail                 fail at once (what the pod does when an annotation asks for a failure)
  virt-launcher agent-ping           exit 0 if the guest's agent answers (exec probe)
  virt-launcher agent-exec CMD...    run a command in the guest by its agent and exit with its code (exec probe)
  virt-launcher version

agent-ping and agent-exec take --timeout SECONDS before the command.
`

// errUsage is wrapped by errors about the command line itself.
var errUsage = errors.New("see virt-launcher help")

// exitCode is the code of a command that ran in the guest and did not succeed.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Run is the program; it returns the exit code.
func Run(ctx context.Context, streams Streams, args []string) int {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	if len(args) == 0 {
		return launcher.New(launcher.Options{
			Version: version.Version(), Stdout: streams.Stdout, Stderr: streams.Stderr, LibvirtLog: libvirtLog(streams.Stderr),
		}).Run(ctx)
	}
	err := run(ctx, streams, args[0], args[1:])
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(streams.Stderr, "virt-launcher: %v\n", err)
	if errors.Is(err, errUsage) {
		return exitUsage
	}
	return exitError
}

// libvirtLog is what the pod says libvirt shall log. A guest starts also when that makes no sense.
func libvirtLog(stderr io.Writer) string {
	filters := os.Getenv(layout.LibvirtLogEnv)
	if err := daemon.CheckLogFilters(filters); err != nil {
		fmt.Fprintf(stderr, "virt-launcher: %v\n", err)
		return ""
	}
	return filters
}

func run(ctx context.Context, streams Streams, command string, args []string) error {
	switch command {
	case "version":
		_, err := fmt.Fprintln(streams.Stdout, version.Version())
		return err
	case "help", "--help", "-h":
		_, err := io.WriteString(streams.Stdout, usage)
		return err
	case "probe":
		return runProbe(ctx, streams, args)
	case probe.StageCommand:
		if len(args) != 1 {
			return errUsage
		}
		return probe.RunStage(ctx, args[0], streams.Stderr)
	case "fail":
		return errors.New("asked to fail by an annotation of the virtual machine")
	case "hold":
		return holdVolume(ctx, streams, args)
	case "agent-ping":
		return agentPing(ctx, args)
	case "agent-exec":
		return agentExec(ctx, streams, args)
	}
	return fmt.Errorf("unknown command %q: %w", command, errUsage)
}

func runProbe(ctx context.Context, streams Streams, args []string) error {
	o := probe.Options{Stderr: streams.Stderr}
	flags := newFlags("probe")
	flags.StringVar(&o.Out, "out", "", "directory for what is found")
	flags.StringVar(&o.Report, "report", "", "file for a summary, such as a container's termination message")
	flags.StringVar(&o.Kernel, "kvm-kernel", probe.DefaultKernel, "kernel to try KVM with")
	flags.StringVar(&o.Initrd, "kvm-initrd", "", "initrd to try KVM with; it must print "+fmt.Sprintf("%q", probe.Marker))
	flags.DurationVar(&o.KVMTimeout, "kvm-timeout", probe.DefaultKVMTimeout, "how long the guest may take to its first program")
	if err := parse(flags, args); err != nil {
		return err
	}
	if o.Out == "" || flags.NArg() > 0 {
		return fmt.Errorf("probe needs --out DIR and nothing else: %w", errUsage)
	}
	return probe.Run(ctx, o)
}

func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("%s: %w: %w", flags.Name(), err, errUsage)
	}
	return nil
}
