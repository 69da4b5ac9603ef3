// Package vnc is the command that opens a machine's screen.
package vnc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/dial"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/vnc/screenshot"
)

// Options are what the command line says.
type Options struct {
	Address         string
	Port            int
	ProxyOnly       bool
	PreserveSession bool
	Viewer          string
	ViewerPath      string
	Timeout         time.Duration
}

// viewerPatience is how long a viewer may take to connect.
const viewerPatience = time.Minute

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "vnc VMI",
		Short: "Open a machine's screen",
		Long: `Open a machine's screen in a VNC viewer of this computer, or make it reachable for one.

A machine that is starting is waited for. Who opens a screen takes it over from whoever had it before, unless --preserve-session
is given.`,
		Example: `  # Open the screen of web
  {{ProgramName}} vnc web

  # Only listen, for a viewer of your own
  {{ProgramName}} vnc web --proxy-only --port 5900

  # A picture of the screen
  {{ProgramName}} vnc screenshot web --file web.png`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: target.CompleteOne(f, target.VMI),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.Address, "address", "127.0.0.1", "Local address to listen at")
	flags.IntVar(&opts.Port, "port", 0, "Local port to listen at; 0 is any free one")
	flags.BoolVar(&opts.ProxyOnly, "proxy-only", false, "Start no viewer: print the port as JSON and wait for a connection")
	flags.BoolVar(&opts.PreserveSession, "preserve-session", false, "Do not take the screen over from somebody else: fail instead")
	flags.StringVar(&opts.Viewer, "vnc-type", "", "Kind of viewer to start: tiger, chicken, real or remote-viewer; default the first that is found")
	flags.StringVar(&opts.ViewerPath, "vnc-path", "", "Path of the viewer to start")
	flags.DurationVar(&opts.Timeout, "timeout", 5*time.Minute, "How long to wait for a machine that is starting; 0 is one try")
	_ = cmd.RegisterFlagCompletionFunc("vnc-type", cobra.FixedCompletions(viewerNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(screenshot.NewCmd(f))
	return cmd
}

// Run opens the screen.
func Run(ctx context.Context, f *factory.Factory, opts *Options, name string) error {
	if opts.Port < 0 || opts.Port > 65535 {
		return problem.Usagef("--port %d is not a port between 0 and 65535", opts.Port)
	}
	var program *viewer
	if !opts.ProxyOnly {
		found, err := findViewer(opts.Viewer, opts.ViewerPath)
		if err != nil {
			return err
		}
		program = found
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	t, err := target.ParseOne(target.VMI, namespace, name)
	if err != nil {
		return err
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	stream, err := dial.Open(ctx, c, dial.Request{
		Target: client.VMI(t.Namespace, t.Name), Subresource: "vnc", Patience: opts.Timeout,
		Query:  url.Values{"preserveSession": {strconv.FormatBool(opts.PreserveSession)}},
		Report: func(text string) { f.Streams.Say("%s\n", text) },
	})
	if err != nil {
		return fmt.Errorf("cannot open the screen of %s: %w", t.Name, err)
	}
	defer func() { _ = stream.Close() }()
	warnPaused(ctx, f, c, t)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(opts.Address, strconv.Itoa(opts.Port)))
	if err != nil {
		return fmt.Errorf("cannot listen at %s:%d: %w; choose another with --address and --port", opts.Address, opts.Port, err)
	}
	defer func() { _ = listener.Close() }()
	return opts.show(ctx, f, program, listener.(*net.TCPListener), stream)
}

func warnPaused(ctx context.Context, f *factory.Factory, c *client.Client, t client.Target) {
	vmi, err := c.VMIs(t.Namespace).Get(ctx, t.Name)
	if err != nil {
		return
	}
	for _, condition := range vmi.Status.Conditions {
		if condition.Type == kubevirtv1.VirtualMachineInstancePaused && condition.Status == corev1.ConditionTrue {
			f.Streams.Say("%s is paused. Console will be active after unpause.\n", t.Name)
		}
	}
}

// show joins the viewer's one connection with the screen.
func (o *Options) show(ctx context.Context, f *factory.Factory, program *viewer, listener *net.TCPListener, stream *client.Stream) error {
	address := listener.Addr().(*net.TCPAddr)
	exited := make(chan error, 1)
	if program == nil {
		line, err := json.Marshal(map[string]int{"port": address.Port})
		if err != nil {
			return fmt.Errorf("print the port: %w", err)
		}
		f.Streams.Print("%s\n", line)
	} else {
		stop, err := program.start(ctx, address, f.Streams, exited)
		if err != nil {
			return err
		}
		defer stop()
		if err := listener.SetDeadline(time.Now().Add(viewerPatience)); err != nil {
			return fmt.Errorf("limit the wait for the viewer: %w", err)
		}
	}
	accepted := make(chan net.Conn, 1)
	failed := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
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
		return viewerEnded(program, err)
	case err := <-failed:
		return problem.New(problem.Timeout, "the viewer did not connect within %s: %w", viewerPatience, err)
	case conn := <-accepted:
		return dial.Join(ctx, conn, stream, "the screen")
	}
}

func viewerEnded(program *viewer, err error) error {
	if err == nil {
		err = errors.New("it exited")
	}
	return fmt.Errorf("the viewer %s ended before it had connected: %w; see whether it works by itself, or use --proxy-only", program.path, err)
}
