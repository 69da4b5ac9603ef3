// Package scp is the command that copies files to and from a machine with the local scp program.
package scp

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/remote"
)

// Options are what the command line says.
type Options struct {
	remote.Options
	Recursive bool
	Preserve  bool
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "scp SOURCE DESTINATION",
		Short: "Copy files to or from a machine with SSH",
		Long: `Copy files to or from a machine with SSH.

One of the two places is in the machine and is written [USER@](vm|vmi)/NAME[/NAMESPACE]:PATH. The local scp program is used, and
reaches the machine through the API server. Its exit status is passed on.`,
		Example: `  # To the machine
  {{ProgramName}} scp site.tar alice@vm/web:/tmp/

  # From the machine, with directories
  {{ProgramName}} scp --recursive alice@vm/web:/var/log ./logs`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return Run(cmd.Context(), f, opts, args[0], args[1])
		},
	}
	opts.Bind(cmd.Flags())
	cmd.Flags().BoolVarP(&opts.Recursive, "recursive", "r", false, "Copy directories with all they contain")
	cmd.Flags().BoolVar(&opts.Preserve, "preserve", false, "Keep modification and access times and permissions")
	return cmd
}

// Run copies.
func Run(ctx context.Context, f *factory.Factory, opts *Options, from, to string) error {
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	fromHost, fromPath, fromRemote := split(from)
	toHost, toPath, toRemote := split(to)
	name := fromHost
	switch {
	case fromRemote && toRemote:
		return problem.Usagef("copying from a remote location to another remote location is not supported: %q to %q", from, to)
	case !fromRemote && !toRemote:
		return problem.Usagef("none of the two provided locations seems to be a remote location: %q to %q; write vm/NAME:PATH", from, to)
	case toRemote:
		name = toHost
	}
	host, err := remote.ParseHost(namespace, name)
	if err != nil {
		return err
	}
	line := append(opts.Arguments(f, host), "-P", strconv.Itoa(opts.Port))
	if opts.Recursive {
		line = append(line, "-r")
	}
	if opts.Preserve {
		line = append(line, "-p")
	}
	at := host.UserOr(opts.User, os.Getenv("USER")) + "@" + host.Alias() + ":"
	if fromRemote {
		line = append(line, "--", at+fromPath, toPath)
	} else {
		line = append(line, "--", fromPath, at+toPath)
	}
	return remote.Run(ctx, f.Streams, "scp", line)
}

// split takes HOST:PATH apart. A path of Windows (C:\...) and one that begins with a dot or slash is local whatever it contains.
func split(place string) (host, path string, isRemote bool) {
	before, after, found := strings.Cut(place, ":")
	if !found || !strings.Contains(before, "/") || strings.HasPrefix(place, "/") || strings.HasPrefix(place, ".") || strings.HasPrefix(after, `\`) {
		return "", place, false
	}
	return before, after, true
}
