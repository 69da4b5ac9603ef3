package commands

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/terminal"
	versioncmd "virtctl/internal/commands/version"
	"virtctl/internal/version"
)

// Main runs one invocation and gives its exit status. arguments begins with the program's own name.
func Main(ctx context.Context, streams *terminal.Streams, arguments []string) int {
	f := factory.New(streams, ProgramName(arguments[0]), arguments[0])
	root := NewRoot(f)
	root.SetArgs(arguments[1:])
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return int(problem.OK)
	}
	if ctx.Err() != nil && !problem.IsSilent(err) {
		err = problem.With(problem.Interrupted, fmt.Errorf("interrupted"))
	}
	if !problem.IsSilent(err) {
		report(ctx, f, cmd.CommandPath(), err)
	}
	return int(problem.CodeOf(err))
}

func report(ctx context.Context, f *factory.Factory, command string, err error) {
	f.Streams.Say("error: %s\n", problem.Explain(err, f.Program))
	where := problem.Where{Program: f.Program, Command: command, Server: f.Server(), Context: f.Connection.Context()}
	for _, hint := range problem.Hints(err, where) {
		f.Streams.Say("hint: %s\n", hint)
	}
	if note := skew(ctx, f, err); note != "" {
		f.Streams.Say("%s\n", note)
	}
}

// skewPatience bounds how long a failed command asks for the server's version.
const skewPatience = 2 * time.Second

// skew says whether different versions may be the reason for a request that the server did not understand.
func skew(ctx context.Context, f *factory.Factory, err error) string {
	if !problem.MayBeSkew(err) {
		return ""
	}
	c, clientErr := f.Client()
	if clientErr != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, skewPatience)
	defer cancel()
	var server version.Info
	if c.ServerVersion(ctx, &server) != nil {
		return ""
	}
	return versioncmd.Skew(version.Get().GitVersion, server.GitVersion)
}

// ProgramName is what the user types: a program called kubectl-virt is used as "kubectl virt".
func ProgramName(arg0 string) string {
	base := strings.TrimSuffix(filepath.Base(arg0), ".exe")
	if strings.HasSuffix(base, "-virt") {
		return strings.TrimSuffix(base, "-virt") + " virt"
	}
	return "virtctl"
}

func hide(shown map[string]bool) func(*pflag.Flag) {
	return func(flag *pflag.Flag) { flag.Hidden = !shown[flag.Name] }
}
