// Package remote runs the local ssh and scp programs so that they reach a machine through the API server.
package remote

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/terminal"
)

// Options are the flags that ssh and scp share.
type Options struct {
	User       string
	Identity   string
	KnownHosts string
	Port       int
	LocalOpts  []string
}

// Bind adds the flags.
func (o *Options) Bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.User, "username", "l", "", "User to log in as; default the one before the @, else $USER")
	flags.StringVarP(&o.Identity, "identity-file", "i", "", "Private key to log in with; default what the ssh program finds")
	flags.StringVar(&o.KnownHosts, "known-hosts", "", "File of known host keys; default the ssh program's own")
	flags.IntVarP(&o.Port, "port", "p", 22, "Port of the SSH server in the machine")
	flags.StringArrayVarP(&o.LocalOpts, "local-ssh-opts", "t", nil, "Further option for the local program, for example \"-o StrictHostKeyChecking=no\"; may be repeated")
}

// Host is a machine to log in to.
type Host struct {
	Target client.Target
	User   string
}

// ParseHost reads [USER@](vm|vmi)/NAME[/NAMESPACE].
func ParseHost(namespace, text string) (Host, error) {
	var host Host
	if user, rest, found := strings.Cut(text, "@"); found {
		if user == "" {
			return host, problem.Usagef("expected username before '@' in %q", text)
		}
		host.User, text = user, rest
	}
	if !strings.Contains(text, "/") {
		return host, problem.Usagef("target must contain type and name separated by '/': write vm/%s or vmi/%s", text, text)
	}
	t, err := target.ParseOne(target.VMI, namespace, text)
	host.Target = t
	return host, err
}

// UserOr is the user named with the host, or the first of the others.
func (h Host) UserOr(others ...string) string {
	for _, user := range append([]string{h.User}, others...) {
		if user != "" {
			return user
		}
	}
	return "root"
}

func (h Host) short() string {
	if h.Target.Resource == target.VM {
		return "vm"
	}
	return "vmi"
}

// Alias is the name under which ssh remembers the machine's host key.
func (h Host) Alias() string { return h.short() + "." + h.Target.Name + "." + h.Target.Namespace }

// Arguments are what ssh and scp are told in common: how to reach the machine, with this invocation's cluster and user.
func (o *Options) Arguments(f *factory.Factory, host Host) []string {
	proxy := []string{quote(f.Executable)}
	for _, arg := range f.Connection.Args() {
		proxy = append(proxy, quote(arg))
	}
	proxy = append(proxy, "port-forward", "--stdio=true", host.short()+"/"+host.Target.Name+"/"+host.Target.Namespace, fmt.Sprint(o.Port))
	line := []string{"-o", "ProxyCommand=" + strings.Join(proxy, " ")}
	if o.KnownHosts != "" {
		line = append(line, "-o", "UserKnownHostsFile="+quoteOption(o.KnownHosts))
	}
	if o.Identity != "" {
		line = append(line, "-i", o.Identity)
	}
	for _, option := range o.LocalOpts {
		line = append(line, localOption(option)...)
	}
	return line
}

// localOption takes "-o Name=value" apart, as a shell would; everything else is passed on as it is.
func localOption(option string) []string {
	if name, value, found := strings.Cut(option, " "); found && len(name) == 2 && name[0] == '-' {
		return []string{name, strings.TrimSpace(value)}
	}
	return []string{option}
}

// quote makes a word safe for the shell that ssh gives the ProxyCommand to, and for ssh's own percent tokens.
func quote(word string) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if !strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,@+%", r)
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func quoteOption(value string) string {
	if strings.ContainsAny(value, " \t") {
		return `"` + value + `"`
	}
	return value
}

// Run runs a local program on this program's streams and passes its exit status on.
func Run(ctx context.Context, streams *terminal.Streams, program string, arguments []string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return problem.New(problem.Failure, "the local program %s is needed and was not found: install an OpenSSH client", program)
	}
	command := exec.CommandContext(ctx, path, arguments...)
	command.Stdin, command.Stdout, command.Stderr = streams.In, streams.Out, streams.Err
	err = command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return problem.Silent(problem.Code(exit.ExitCode()))
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return nil
}

// Complete offers machines as KIND/NAME.
func Complete(f *factory.Factory) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		user, rest, found := strings.Cut(typed, "@")
		lead := user + "@"
		if !found {
			lead, rest = "", typed
		}
		if !strings.Contains(rest, "/") {
			return []cobra.Completion{lead + "vm/", lead + "vmi/"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		var names []cobra.Completion
		for _, name := range target.Names(cmd.Context(), f, target.VMI, rest, nil) {
			names = append(names, lead+name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
