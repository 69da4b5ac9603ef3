// Package factory gives commands what they work with. Everything is made on first use, so that help and completion cost nothing.
package factory

import (
	"sync"

	"k8s.io/client-go/rest"

	"virtctl/internal/client"
	"virtctl/internal/commands/defaults"
	"virtctl/internal/commands/terminal"
	"virtctl/internal/version"
)

// Factory is handed to every command's constructor.
type Factory struct {
	Streams *terminal.Streams
	// Program is what the user types: "virtctl", or "kubectl virt" when called as a kubectl plugin.
	Program string
	// Executable is how this program can be started again.
	Executable string
	// Connection says which cluster and namespace.
	Connection *Connection
	// Defaults are the user's own defaults for flags.
	Defaults *defaults.Source

	client func() (*client.Client, error)
}

// New makes a factory for one invocation.
func New(streams *terminal.Streams, program, executable string) *Factory {
	source := defaults.New()
	f := &Factory{
		Streams: streams, Program: program, Executable: executable, Defaults: source, Connection: newConnection(streams, source),
	}
	f.client = sync.OnceValues(f.connect)
	return f
}

// Client is the connection to the cluster.
func (f *Factory) Client() (*client.Client, error) { return f.client() }

// RESTConfig is the configuration to reach the cluster with.
func (f *Factory) RESTConfig() (*rest.Config, error) {
	config, err := f.Connection.restConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "virtctl/" + version.Version()
	// What the cluster warns of goes where all talk goes, in the words that kubectl uses, and once.
	config.WarningHandler = rest.NewWarningWriter(warnings{f.Streams}, rest.WarningWriterOptions{Deduplicate: true})
	return config, nil
}

// warnings writes lines of talk.
type warnings struct{ streams *terminal.Streams }

func (w warnings) Write(p []byte) (int, error) {
	w.streams.Say("%s", p)
	return len(p), nil
}

// Namespace is the namespace to work in; explicit is true when the user named it on the command line or in the defaults.
func (f *Factory) Namespace() (namespace string, explicit bool, err error) {
	return f.Connection.namespace()
}

func (f *Factory) connect() (*client.Client, error) {
	config, err := f.RESTConfig()
	if err != nil {
		return nil, err
	}
	return client.New(config)
}

// Server is the API server's address, or "" when the kubeconfig names none.
func (f *Factory) Server() string {
	config, err := f.Connection.restConfig()
	if err != nil {
		return ""
	}
	return config.Host
}
