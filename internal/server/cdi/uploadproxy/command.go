// Package uploadproxy is cdi-uploadproxy: the way in for uploads from outside the cluster. Who shows a token from
// cdi-apiserver is led to the upload server of the claim that the token is for.
package uploadproxy

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"context"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"virtctl/internal/cdi/connect"
	"virtctl/internal/cdi/forward"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/serving"
	"virtctl/internal/cdi/tlsprofile"
	"virtctl/internal/cdi/token"
	"virtctl/internal/footprint"
	"virtctl/internal/tlsfile"
)

// Options is how the proxy is run.
type Options struct {
	Port int
	// Kubeconfig is for running outside a cluster; empty means inside.
	Kubeconfig string
	// ServingDir and ClientDir hold tls.crt and tls.key: what is shown to clients, and what is shown to upload servers.
	ServingDir, ClientDir string
	// Authorities is the file with who signs upload servers' certificates, SigningKey the one with the tokens' public key.
	Authorities, SigningKey string
	LameDuck, Drain         time.Duration
	// UploadPort is where upload servers listen.
	UploadPort int
}

const certs = "/var/run/certs/"

// Command is `virt-server cdi-uploadproxy`.
func Command() *cobra.Command {
	o := Options{
		Port:       8443,
		ServingDir: certs + names.SecretProxyCert, ClientDir: certs + names.SecretUploadClientCert,
		Authorities: certs + names.BundleUpload + "/" + names.BundleKey,
		SigningKey:  certs + names.SecretSigningKey + "/" + names.SigningKeyPublic,
		LameDuck:    5 * time.Second, Drain: 5 * time.Minute, UploadPort: names.PortUploadServer,
	}
	cmd := &cobra.Command{
		Use:   "cdi-uploadproxy",
		Short: "Lead uploads from outside to the claims they are for",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)).With("component", "cdi-uploadproxy")
			klog.SetSlogLogger(log)
			config, err := connect.Config(o.Kubeconfig, "cdi-uploadproxy")
			if err != nil {
				return fmt.Errorf("start cdi-uploadproxy: %w", err)
			}
			server, err := New(config, o, log)
			if err != nil {
				return fmt.Errorf("start cdi-uploadproxy: %w", err)
			}
			return server.Run(ctx)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Port, "port", o.Port, "port to listen on")
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig file, when not running in a pod of the cluster")
	f.StringVar(&o.ServingDir, "serving-certificates", o.ServingDir, "directory with tls.crt and tls.key to serve with")
	f.StringVar(&o.ClientDir, "client-certificates", o.ClientDir, "directory with tls.crt and tls.key to call upload servers with")
	f.StringVar(&o.Authorities, "ca-bundle", o.Authorities, "file with the authorities of upload servers")
	f.StringVar(&o.SigningKey, "signing-key", o.SigningKey, "file with the public key of tokens")
	f.DurationVar(&o.LameDuck, "lame-duck", o.LameDuck, "how long to go on answering after becoming unready on SIGTERM")
	f.DurationVar(&o.Drain, "drain", o.Drain, "how long uploads may last after that; the pod's grace period must be longer")
	return cmd
}

// New puts the proxy together.
func New(config *rest.Config, o Options, log *slog.Logger) (*serving.Server, error) {
	c, err := connect.Client(config)
	if err != nil {
		return nil, err
	}
	key := token.PublicFile(o.SigningKey)
	forwarder := &forward.Forwarder{
		Finder:      &forward.Finder{Client: c, Wait: forward.ReadyWait},
		Certificate: tlsfile.Mounted(o.ClientDir), Authorities: &tlsfile.Bundle{File: o.Authorities}, Log: log, Port: o.UploadPort,
	}
	profile := &tlsprofile.Source{Client: c, Log: log}
	return &serving.Server{
		Name: "cdi-uploadproxy", Port: o.Port, Handler: NewHandler(key.Get, forwarder.Serve, log),
		Certificate: tlsfile.Mounted(o.ServingDir), Profile: profile.Get, ClientAuth: tls.NoClientCert,
		LameDuck: o.LameDuck, Drain: o.Drain, Log: log,
		Checks: []func() error{
			func() error { _, err := key.Get(); return err },
			func() error { _, err := forwarder.Certificate.Get(); return err },
			func() error { _, err := forwarder.Authorities.Get(); return err },
		},
		Background: []func(context.Context) error{profile.Run, footprint.Trimmer{Log: logr.FromSlogHandler(log.Handler())}.Start},
	}, nil
}
