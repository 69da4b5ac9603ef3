// Package portforward is the command that makes a machine's ports reachable from here.
package portforward

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are what the command line says.
type Options struct {
	Stdio   bool
	Address string
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "port-forward [vm|vmi]/NAME[/NAMESPACE] [PROTOCOL/]LOCALPORT[:TARGETPORT]...",
		Short: "Make a machine's ports reachable from here",
		Long: `Make a machine's ports reachable from here, through the API server.

Each connection to the local port is carried to the port in the machine. A local port of 0 takes any free one; it is printed.
The command runs until it is interrupted; a connection that fails does not end it.`,
		Example: `  # Reach port 80 of web at localhost:8080
  {{ProgramName}} port-forward vm/web 8080:80

  # A UDP port
  {{ProgramName}} port-forward vmi/dns/infra udp/5353:53

  # One connection over standard input and output, for ssh
  ssh -o 'ProxyCommand={{ProgramName}} port-forward --stdio=true vmi/web/default 22' alice@web`,
		Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			if !strings.Contains(typed, "/") {
				return []cobra.Completion{"vm/", "vmi/"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
			}
			return target.Names(cmd.Context(), f, target.VMI, typed, args), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args)
		},
	}
	cmd.Flags().BoolVar(&opts.Stdio, "stdio", false, "Carry one connection over standard input and output; takes one port")
	cmd.Flags().StringVar(&opts.Address, "address", "127.0.0.1", "Local address to listen at")
	return cmd
}

// port is one port to forward.
type port struct {
	protocol      string
	local, remote uint16
}

func (p port) subresource() string { return fmt.Sprintf("portforward/%d/%s", p.remote, p.protocol) }

func parsePort(text string) (port, error) {
	p := port{protocol: "tcp"}
	rest := text
	if protocol, after, found := strings.Cut(text, "/"); found {
		p.protocol, rest = strings.ToLower(protocol), after
	}
	if p.protocol != "tcp" && p.protocol != "udp" {
		return p, problem.Usagef("unknown protocol %q in %q: write tcp/PORT or udp/PORT", p.protocol, text)
	}
	local, remote, both := strings.Cut(rest, ":")
	if !both {
		remote = local
	}
	l, err := strconv.ParseUint(local, 10, 16)
	if err != nil {
		return p, problem.Usagef("%q in %q is not a port between 0 and 65535", local, text)
	}
	r, err := strconv.ParseUint(remote, 10, 16)
	if err != nil || r == 0 {
		return p, problem.Usagef("%q in %q is not a port between 1 and 65535", remote, text)
	}
	p.local, p.remote = uint16(l), uint16(r)
	return p, nil
}

// Run forwards until the context ends.
func Run(ctx context.Context, f *factory.Factory, opts *Options, args []string) error {
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	if !strings.Contains(args[0], "/") {
		return problem.Usagef("target must contain type and name separated by '/': write vm/%s or vmi/%s", args[0], args[0])
	}
	t, err := target.ParseOne(target.VMI, namespace, args[0])
	if err != nil {
		return err
	}
	ports := make([]port, 0, len(args)-1)
	for _, text := range args[1:] {
		p, err := parsePort(text)
		if err != nil {
			return err
		}
		ports = append(ports, p)
	}
	if opts.Stdio && len(ports) != 1 {
		return problem.Usagef("only one port supported when forwarding to stdout")
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	fw := &forwarder{streams: f.Streams, client: c, target: t}
	if opts.Stdio {
		return fw.stdio(ctx, ports[0])
	}
	return fw.listen(ctx, opts.Address, ports)
}

// word is how the target is called in messages.
func word(t client.Target) string { return target.Word(t) + " " + t.Name }
