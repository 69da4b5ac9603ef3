// Package ingress is what the two ways in for uploads, cdi-apiserver and cdi-uploadproxy, are run with and made of.
package ingress

import (
	"flag"
	"fmt"
	"log/slog"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/connect"
	"virtctl/internal/cdi/forward"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/serving"
	"virtctl/internal/tlsfile"
)

// Options is how a server is run.
type Options struct {
	Port int
	// Kubeconfig is for running outside a cluster; empty means inside.
	Kubeconfig string
	// ServingDir and ClientDir hold tls.crt and tls.key: what is shown to clients, and what is shown to upload servers.
	ServingDir, ClientDir string
	// Authorities is the file with who signs upload servers' certificates, SigningKey the one with the tokens' key: the one that
	// signs, or its public part.
	Authorities, SigningKey string
	LameDuck, Drain         time.Duration
	// UploadPort is where upload servers listen.
	UploadPort int
}

const certs = "/var/run/certs/"

// Defaults are the places where a Deployment mounts what the server reads: the Secret of its own certificate, and a key of the
// Secret of tokens.
func Defaults(servingSecret, signingKey string) Options {
	return Options{
		Port:       8443,
		ServingDir: certs + servingSecret, ClientDir: certs + names.SecretUploadClientCert,
		Authorities: certs + names.BundleUpload + "/" + names.BundleKey,
		SigningKey:  certs + names.SecretSigningKey + "/" + signingKey,
		LameDuck:    5 * time.Second, Drain: 5 * time.Minute, UploadPort: names.PortUploadServer,
	}
}

// New puts a server together.
type New func(config *rest.Config, o Options, log *slog.Logger) (*serving.Server, error)

// Command completes a subcommand of virt-server: it runs what is put together until it is told to stop.
func Command(cmd *cobra.Command, o Options, put New) *cobra.Command {
	name := cmd.Use
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	cmd.Flags().AddGoFlag(logging.Lookup("v"))
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level(logging)})).With("component", name)
		klog.SetSlogLogger(log)
		config, err := connect.Config(o.Kubeconfig, name)
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		server, err := put(config, o, log)
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		return server.Run(ctx)
	}
	f := cmd.Flags()
	f.IntVar(&o.Port, "port", o.Port, "port to listen on")
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig file, when not running in a pod of the cluster")
	f.StringVar(&o.ServingDir, "serving-certificates", o.ServingDir, "directory with tls.crt and tls.key to serve with")
	f.StringVar(&o.ClientDir, "client-certificates", o.ClientDir, "directory with tls.crt and tls.key to call upload servers with")
	f.StringVar(&o.Authorities, "ca-bundle", o.Authorities, "file with the authorities of upload servers")
	f.StringVar(&o.SigningKey, "signing-key", o.SigningKey, "file with the key of tokens: the one that signs, or its public part")
	f.DurationVar(&o.LameDuck, "lame-duck", o.LameDuck, "how long to go on answering after becoming unready on SIGTERM")
	f.DurationVar(&o.Drain, "drain", o.Drain, "how long uploads may last after that; the pod's grace period must be longer")
	return cmd
}

// level is what of our own is logged at the verbosity of Kubernetes' libraries: from 4 on, what logr calls debugging.
func level(logging *flag.FlagSet) slog.Level {
	verbosity, err := strconv.Atoi(logging.Lookup("v").Value.String())
	if err != nil {
		return slog.LevelInfo
	}
	return slog.Level(-verbosity)
}

// Forwarder leads uploads to upload servers.
func (o Options) Forwarder(c client.WithWatch, log *slog.Logger) *forward.Forwarder {
	return &forward.Forwarder{
		Finder:      &forward.Finder{Client: c, Wait: forward.ReadyWait},
		Certificate: tlsfile.Mounted(o.ClientDir), Authorities: &tlsfile.Bundle{File: o.Authorities}, Log: log, Port: o.UploadPort,
	}
}

// Mounted checks that what a server reads from its mounts is there: the tokens' key and what a forwarder shows and trusts.
func Mounted[K any](key func() (K, error), f *forward.Forwarder) []func() error {
	return []func() error{
		func() error { _, err := key(); return err },
		func() error { _, err := f.Certificate.Get(); return err },
		func() error { _, err := f.Authorities.Get(); return err },
	}
}
