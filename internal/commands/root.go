// Package commands puts the command line together: one package per command below it, one tree here.
package commands

import (
	"strings"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/addvolume"
	"virtctl/internal/commands/adm"
	"virtctl/internal/commands/check"
	"virtctl/internal/commands/console"
	"virtctl/internal/commands/create"
	"virtctl/internal/commands/delete"
	"virtctl/internal/commands/describe"
	"virtctl/internal/commands/evacuatecancel"
	"virtctl/internal/commands/expand"
	"virtctl/internal/commands/expose"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/fslist"
	"virtctl/internal/commands/get"
	"virtctl/internal/commands/guestosinfo"
	"virtctl/internal/commands/install"
	"virtctl/internal/commands/logs"
	"virtctl/internal/commands/migrate"
	"virtctl/internal/commands/migratecancel"
	"virtctl/internal/commands/options"
	"virtctl/internal/commands/pause"
	"virtctl/internal/commands/permitteddevices"
	"virtctl/internal/commands/portforward"
	"virtctl/internal/commands/removevolume"
	"virtctl/internal/commands/reset"
	"virtctl/internal/commands/restart"
	"virtctl/internal/commands/scp"
	"virtctl/internal/commands/softreboot"
	"virtctl/internal/commands/ssh"
	"virtctl/internal/commands/start"
	"virtctl/internal/commands/status"
	"virtctl/internal/commands/stop"
	"virtctl/internal/commands/uninstall"
	"virtctl/internal/commands/unpause"
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
		{"access", "Get in:", []constructor{console.NewCmd, vnc.NewCmd, ssh.NewCmd, scp.NewCmd, portforward.NewCmd, expose.NewCmd}},
		{"inspect", "Look:", []constructor{
			get.NewCmd, describe.NewCmd, wait.NewCmd, logs.NewCmd, guestosinfo.NewCmd, userlist.NewCmd, fslist.NewCmd, expand.NewCmd,
		}},
		{"volumes", "Volumes:", []constructor{addvolume.NewCmd, removevolume.NewCmd}},
		{"platform", "The platform:", platform()},
		{"self", "About this program:", []constructor{version.NewCmd, options.NewCmd}},
	}
}

// platform lists the commands that install and look after the platform itself. Their packages stand beside the others:
// internal/commands/install exports NewCmd(*factory.Factory) *cobra.Command and is added here, and so on.
func platform() []constructor {
	return []constructor{install.NewCmd, status.NewCmd, check.NewCmd, uninstall.NewCmd, permitteddevices.NewCmd, adm.NewCmd}
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
	}
	root.SetIn(f.Streams.In)
	root.SetOut(f.Streams.Out)
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
	help(root, f.Program)
	return root
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
