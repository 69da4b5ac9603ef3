// Package version is the command that says which versions are at work.
package version

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/version"
)

// Options are what the command line says.
type Options struct {
	Output     output.Flag
	ClientOnly bool
}

// Versions is what the command prints.
type Versions struct {
	Client Client        `json:"clientVersion"`
	Server *version.Info `json:"serverVersion,omitempty"`
}

// Client is this program's version.
type Client struct {
	Version      string `json:"version"`
	version.Info `json:",inline"`
}

// NewCmd makes the command.
func NewCmd(f *factory.Factory) *cobra.Command {
	opts := &Options{}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of the platform in the cluster",
		Example: `  # Both versions
  {{ProgramName}} version

  # This program's only; asks no cluster
  {{ProgramName}} version --client -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), f, opts) },
	}
	cmd.Flags().BoolVarP(&opts.ClientOnly, "client", "c", false, "Client version only (no server required)")
	opts.Output.Bind(cmd, "", output.JSON, output.YAML, output.Path)
	return cmd
}

// Run prints the versions.
func Run(ctx context.Context, f *factory.Factory, opts *Options) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	versions := Versions{Client: Client{Version: version.Version(), Info: version.Get()}}
	if opts.Output.IsTable() {
		f.Streams.Print("Client Version: %s (%s), API %s, %s, commit %s\n", versions.Client.Version, versions.Client.Platform,
			version.API, versions.Client.GoVersion, versions.Client.GitCommit)
	}
	if !opts.ClientOnly {
		c, err := f.Client()
		if err != nil {
			return err
		}
		server := &version.Info{}
		if err := c.ServerVersion(ctx, server); err != nil {
			return fmt.Errorf("cannot ask the cluster for the platform's version: %w", err)
		}
		versions.Server = server
	}
	if !opts.Output.IsTable() {
		return opts.Output.Value(f.Streams, versions)
	}
	if versions.Server == nil {
		return nil
	}
	f.Streams.Print("Server Version: %s, %s, commit %s\n", versions.Server.GitVersion, versions.Server.GoVersion, versions.Server.GitCommit)
	if note := Skew(versions.Client.GitVersion, versions.Server.GitVersion); note != "" {
		f.Streams.Say("%s\n", note)
	}
	return nil
}
