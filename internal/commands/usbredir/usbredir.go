// Package usbredir is the command that passes a USB device of this computer to a machine.
package usbredir

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/dial"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// program is the client that speaks the USB redirection protocol (of spice's usbredir).
const program = "usbredirect"

// clientPatience is how long the local client may take to connect.
const clientPatience = time.Minute

// Options are what the command line says.
type Options struct {
	NoLaunch bool
	Address  string
	Port     int
	Timeout  time.Duration
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "usbredir (VENDOR:PRODUCT|BUS-DEVICE) VMI",
		Short: "Pass a USB device of this computer to a machine",
		Long: `Pass a USB device of this computer to a machine.

The machine must have spec.domain.devices.clientPassthrough; four devices at most can be passed at the same time. The local program
usbredirect is used; it usually has to be root to take the device. The device is the machine's until the command ends.`,
		Example: `  # Pass the device 0951:1666, as lsusb names it, to web
  sudo {{ProgramName}} usbredir 0951:1666 web

  # Pass the device 5 on bus 3
  sudo {{ProgramName}} usbredir 3-5 web

  # Only listen, for a client of your own
  {{ProgramName}} usbredir web --no-launch`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return target.Names(cmd.Context(), f, target.VMI, typed, nil), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&opts.NoLaunch, "no-launch", false, "Start no client: print where to connect one and wait for it")
	flags.StringVar(&opts.Address, "address", "127.0.0.1", "Local address to listen at")
	flags.IntVar(&opts.Port, "port", 0, "Local port to listen at; 0 is any free one")
	flags.DurationVar(&opts.Timeout, "timeout", 5*time.Minute, "How long to wait for a machine that is starting; 0 is one try")
	return cmd
}

// device is how usbredirect names a device: by what it is, or by where it is plugged in.
var device = regexp.MustCompile(`^([0-9a-fA-F]{4}:[0-9a-fA-F]{4}|[0-9]{1,3}-[0-9]{1,3})$`)

// parse takes the command line apart; who launches no client need not name a device.
func (o *Options) parse(args []string) (usb, machine string, err error) {
	if len(args) == 1 {
		if !o.NoLaunch {
			return "", "", problem.Usagef("name the device and the machine: usbredir VENDOR:PRODUCT VMI; with --no-launch the machine alone will do")
		}
		return "", args[0], nil
	}
	if !device.MatchString(args[0]) {
		return "", "", problem.Usagef("%q is no USB device: write VENDOR:PRODUCT as lsusb prints it, for example 0951:1666, or BUS-DEVICE, for example 3-5", args[0])
	}
	return args[0], args[1], nil
}

// Run passes the device until it, the machine or the user ends it.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	usb, machine, err := opts.parse(args)
	if err != nil {
		return err
	}
	if opts.Port < 0 || opts.Port > 65535 {
		return problem.Usagef("--port %d is not a port between 0 and 65535", opts.Port)
	}
	path := ""
	if !opts.NoLaunch {
		if path, err = exec.LookPath(program); err != nil {
			return problem.New(problem.Failure, "the local program %s is needed and was not found: install the package usbredirect, or use --no-launch", program)
		}
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	t, err := target.ParseOne(target.VMI, namespace, machine)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	stream, err := dial.Open(ctx, c, dial.Request{
		Target: client.VMI(t.Namespace, t.Name), Subresource: "usbredir", Patience: opts.Timeout,
		Report: func(text string) { f.Streams.Say("%s\n", text) },
	})
	if err != nil {
		return fmt.Errorf("cannot pass a USB device to %s: %w", t.Name, err)
	}
	defer func() { _ = stream.Close() }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(opts.Address, fmt.Sprint(opts.Port)))
	if err != nil {
		return fmt.Errorf("cannot listen at %s:%d: %w; choose another with --address and --port", opts.Address, opts.Port, err)
	}
	defer func() { _ = listener.Close() }()
	p := &passing{f: f, listener: listener.(*net.TCPListener), stream: stream}
	if opts.NoLaunch {
		f.Streams.Print("User can connect usbredir client at: %s\n", listener.Addr())
		return p.serve(ctx, nil)
	}
	return p.launch(ctx, path, usb)
}

// passing is a device on its way to a machine.
type passing struct {
	f        *factory.Factory
	listener *net.TCPListener
	stream   *client.Stream
}

// launch runs the local client for as long as the device is passed.
func (p *passing) launch(ctx context.Context, path, usb string) error {
	ctx, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(ctx, path, "--device", usb, "--to", p.listener.Addr().String())
	command.Stdout, command.Stderr = p.f.Streams.Err, p.f.Streams.Err
	if err := p.listener.SetDeadline(time.Now().Add(clientPatience)); err != nil {
		cancel()
		return fmt.Errorf("limit the wait for %s: %w", program, err)
	}
	if err := command.Start(); err != nil {
		cancel()
		return fmt.Errorf("start %s: %w", program, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- command.Wait() }()
	err := p.serve(ctx, exited)
	cancel()
	return err
}

// serve joins the one connection of a client with the machine; exited tells that the client has ended.
func (p *passing) serve(ctx context.Context, exited <-chan error) error {
	accepted := make(chan net.Conn, 1)
	failed := make(chan error, 1)
	go func() {
		conn, err := p.listener.Accept()
		if err != nil {
			failed <- err
			return
		}
		accepted <- conn
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-exited:
		if err == nil {
			err = errors.New("it exited")
		}
		return fmt.Errorf("%s ended before it had connected: %w; is the device plugged in, and may you use it (sudo)?", program, err)
	case err := <-failed:
		return problem.New(problem.Timeout, "%s did not connect within %s: %w", program, clientPatience, err)
	case conn := <-accepted:
		return dial.Join(ctx, conn, p.stream, "the USB connection")
	}
}
