// Package commands puts the command line together: one package per command below it, one tree here.
package commands

import (
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/addvolume"
	"virtctl/internal/commands/adm"
	"virtctl/internal/commands/check"
	"virtctl/internal/commands/console"
	"virtctl/internal/commands/create"
	"virtctl/internal/commands/credentials"
	"virtctl/internal/commands/defaults"
	"virtctl/internal/commands/delete"
	"virtctl/internal/commands/describe"
	"virtctl/internal/commands/evacuatecancel"
	"virtctl/internal/commands/expand"
	"virtctl/internal/commands/expose"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/freeze"
	"virtctl/internal/commands/fslist"
	"virtctl/internal/commands/get"
	"virtctl/internal/commands/guestosinfo"
	"virtctl/internal/commands/images"
	"virtctl/internal/commands/imageupload"
	"virtctl/internal/commands/install"
	"virtctl/internal/commands/logs"
	"virtctl/internal/commands/memorydump"
	"virtctl/internal/commands/migrate"
	"virtctl/internal/commands/migratecancel"
	"virtctl/internal/commands/node"
	"virtctl/internal/commands/objectgraph"
	"virtctl/internal/commands/options"
	"virtctl/internal/commands/pause"
	"virtctl/internal/commands/permitteddevices"
	"virtctl/internal/commands/portforward"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/removevolume"
	"virtctl/internal/commands/reset"
	"virtctl/internal/commands/restart"
	"virtctl/internal/commands/scp"
	"virtctl/internal/commands/softreboot"
	"virtctl/internal/commands/ssh"
	"virtctl/internal/commands/start"
	"virtctl/internal/commands/status"
	"virtctl/internal/commands/stop"
	"virtctl/internal/commands/storage"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/terminal"
	"virtctl/internal/commands/unfreeze"
	"virtctl/internal/commands/uninstall"
	"virtctl/internal/commands/unpause"
	"virtctl/internal/commands/usbredir"
	"virtctl/internal/commands/userlist"
	"virtctl/internal/commands/version"
	"virtctl/internal/commands/vnc"
	"virtctl/internal/commands/wait"
)

// constructor makes one command.
type constructor func(*factory.Factory) *cobra.Command

// group is a heading of the help with its commands.
type group struct {
	id, title string
	commands  []constructor
}

// groups lists every command under its heading, in the order of the help.
func groups() []group {
	return []group{
		{"create", "Create virtual machines:", []constructor{create.NewCmd}},
		{"power", "Start, stop, move, delete:", []constructor{
			start.NewCmd, stop.NewCmd, restart.NewCmd, pause.NewCmd, unpause.NewCmd, reset.NewCmd, softreboot.NewCmd,
			migrate.NewCmd, migratecancel.NewCmd, evacuatecancel.NewCmd, delete.NewCmd,
		}},
		{"access", "Get in:", []constructor{console.NewCmd, vnc.NewCmd, ssh.NewCmd, scp.NewCmd, portforward.NewCmd, usbredir.NewCmd, expose.NewCmd, credentials.NewCmd}},
		{"inspect", "Look:", []constructor{
			get.NewCmd, describe.NewCmd, wait.NewCmd, logs.NewCmd, guestosinfo.NewCmd, userlist.NewCmd, fslist.NewCmd, expand.NewCmd, objectgraph.NewCmd,
		}},
		{"volumes", "Disks and images:", []constructor{imageupload.NewCmd, addvolume.NewCmd, removevolume.NewCmd, memorydump.NewCmd, storage.NewCmd, freeze.NewCmd, unfreeze.NewCmd}},
		{"platform", "The platform:", platform()},
		{"self", "About this program:", []constructor{version.NewCmd, options.NewCmd}},
	}
}

// platform lists the commands that install and look after the platform itself. Their packages stand beside the others:
// internal/commands/install exports NewCmd(*factory.Factory) *cobra.Command and is added here, and so on.
func platform() []constructor {
	return []constructor{install.NewCmd, status.NewCmd, check.NewCmd, node.NewCmd, uninstall.NewCmd, images.NewCmd, permitteddevices.NewCmd, adm.NewCmd}
}

// NewRoot makes the whole tree for one invocation.
func NewRoot(f *factory.Factory) *cobra.Command {
	root := &cobra.Command{
		Use:   "virtctl",
		Short: "Virtual machines on Kubernetes",
		Long: `virtctl gives a Kubernetes cluster virtual machines, and then runs them: it installs the platform, creates, starts,
stops, migrates and inspects machines, and opens their consoles, screens and ports.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: f.Program},
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fillDefaults(f, cmd)
		},
	}
	// The output is not set: cobra would print its notes about deprecated flags there, into the data.
	root.SetIn(f.Streams.In)
	root.SetErr(f.Streams.Err)
	f.Connection.Bind(root.PersistentFlags())
	for _, g := range groups() {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, make := range g.commands {
			cmd := make(f)
			cmd.GroupID = g.id
			root.AddCommand(cmd)
		}
	}
	root.SetHelpCommandGroupID("self")
	root.SetCompletionCommandGroupID("self")
	complete(root, f)
	help(root, f.Program)
	return root
}

// complete offers values for the global flags.
func complete(root *cobra.Command, f *factory.Factory) {
	_ = root.RegisterFlagCompletionFunc("namespace", target.CompleteNamespaces(f))
	_ = root.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return f.Connection.Contexts(), cobra.ShellCompDirectiveNoFileComp
	})
}

// fillDefaults gives flags the user's own defaults. What asks no cluster and prints the same for everybody does without.
func fillDefaults(f *factory.Factory, cmd *cobra.Command) error {
	var path []string
	for at := cmd; at.HasParent(); at = at.Parent() {
		path = append([]string{at.Name()}, path...)
	}
	if len(path) == 0 || path[0] == "completion" || path[0] == "options" || strings.HasPrefix(path[0], "__") {
		return nil
	}
	if client := cmd.Flags().Lookup("client"); path[0] == "version" && client != nil && client.Changed {
		return nil
	}
	if err := checkKeys(f, cmd.Root()); err != nil {
		return err
	}
	return f.Defaults.Fill(cmd.Flags(), path)
}

// checkKeys reports keys of the configuration file that no command knows: most are mistyped.
func checkKeys(f *factory.Factory, root *cobra.Command) error {
	keys, err := f.Defaults.Keys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if !known(root, strings.Split(key, "."), true) {
			file, _ := defaults.File()
			return problem.Usagef("the key %q of the configuration file %s belongs to no flag: write FLAG or COMMAND.FLAG", key, file)
		}
	}
	return nil
}

// known tells whether the path ends in a flag of the command; the flags of all commands may be set at the top.
func known(cmd *cobra.Command, path []string, top bool) bool {
	if len(path) == 1 {
		if cmd.Flags().Lookup(path[0]) != nil || cmd.InheritedFlags().Lookup(path[0]) != nil || cmd.PersistentFlags().Lookup(path[0]) != nil {
			return true
		}
		return top && slices.ContainsFunc(cmd.Commands(), func(child *cobra.Command) bool { return known(child, path, true) })
	}
	return slices.ContainsFunc(cmd.Commands(), func(child *cobra.Command) bool {
		return child.Name() == path[0] && known(child, path[1:], false)
	})
}

// help lays out the help: a command's own flags, and of the global ones only those that are asked for most.
func help(root *cobra.Command, program string) {
	shown := map[string]bool{"namespace": true, "context": true, "kubeconfig": true}
	root.PersistentFlags().VisitAll(hide(shown))
	inner := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		Personalise(cmd, program)
		inner(cmd, args)
	})
}

// Personalise writes the program's name into a command's texts.
func Personalise(cmd *cobra.Command, program string) {
	replace := strings.NewReplacer("{{ProgramName}}", program)
	cmd.Long, cmd.Example = replace.Replace(cmd.Long), replace.Replace(cmd.Example)
}

// Documented makes the tree that the reference pages and completions describe: the same whoever generates them, and where.
func Documented() *cobra.Command {
	streams := &terminal.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}
	return NewRoot(factory.New(streams, "virtctl", "virtctl"))
}
