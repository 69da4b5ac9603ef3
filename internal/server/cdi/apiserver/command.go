// Package apiserver is cdi-apiserver: it gives tokens for uploads, leads uploads that come through the Kubernetes API server to
// their claims, and judges CDI's objects on admission.
package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"virtctl/internal/aggregation"
	"virtctl/internal/cdi/connect"
	"virtctl/internal/cdi/forward"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/serving"
	"virtctl/internal/cdi/tlsprofile"
	"virtctl/internal/cdi/token"
	"virtctl/internal/footprint"
	"virtctl/internal/server/cdi/apiserver/review"
	"virtctl/internal/tlsfile"
)

// Options is how the server is run.
type Options struct {
	Port int
	// Kubeconfig is for running outside a cluster; empty means inside.
	Kubeconfig string
	// ServingDir and ClientDir hold tls.crt and tls.key: what is shown to clients, and what is shown to upload servers.
	ServingDir, ClientDir string
	// Authorities is the file with who signs upload servers' certificates, SigningKey the one with the key that signs tokens.
	Authorities, SigningKey string
	LameDuck, Drain         time.Duration
	// UploadPort is where upload servers listen.
	UploadPort int
}

const certs = "/var/run/certs/"

// Command is `virt-server cdi-apiserver`.
func Command() *cobra.Command {
	o := Options{
		Port:       8443,
		ServingDir: certs + names.SecretAPICert, ClientDir: certs + names.SecretUploadClientCert,
		Authorities: certs + names.BundleUpload + "/" + names.BundleKey,
		SigningKey:  certs + names.SecretSigningKey + "/" + names.SigningKeyPrivate,
		LameDuck:    5 * time.Second, Drain: 5 * time.Minute, UploadPort: names.PortUploadServer,
	}
	cmd := &cobra.Command{
		Use:   "cdi-apiserver",
		Short: "Give upload tokens, lead uploads to their claims, judge CDI's objects on admission",
		Long: `Serves the API group upload.cdi.kubevirt.io behind the Kubernetes API server's aggregation layer, and CDI's admission
webhooks, over HTTPS on one port. On SIGTERM it stops being ready, and waits for open uploads to end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)).With("component", "cdi-apiserver")
			klog.SetSlogLogger(log)
			config, err := connect.Config(o.Kubeconfig, "cdi-apiserver")
			if err != nil {
				return fmt.Errorf("start cdi-apiserver: %w", err)
			}
			server, err := New(config, o, log)
			if err != nil {
				return fmt.Errorf("start cdi-apiserver: %w", err)
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
	f.StringVar(&o.SigningKey, "signing-key", o.SigningKey, "file with the key that signs tokens")
	f.DurationVar(&o.LameDuck, "lame-duck", o.LameDuck, "how long to go on answering after becoming unready on SIGTERM")
	f.DurationVar(&o.Drain, "drain", o.Drain, "how long uploads may last after that; the pod's grace period must be longer")
	return cmd
}

// New puts the server together.
func New(config *rest.Config, o Options, log *slog.Logger) (*serving.Server, error) {
	c, err := connect.Client(config)
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	aggregator, err := aggregation.NewAggregator(kube)
	if err != nil {
		return nil, err
	}
	key := token.PrivateFile(o.SigningKey)
	forwarder := &forward.Forwarder{
		Finder:      &forward.Finder{Client: c, Wait: forward.ReadyWait},
		Certificate: tlsfile.Mounted(o.ClientDir), Authorities: &tlsfile.Bundle{File: o.Authorities}, Log: log, Port: o.UploadPort,
	}
	signer := signer{key: key.Get, now: time.Now}
	reviews := &review.Server{Client: c, Sign: signer.clone}
	api := &api{
		guard: aggregation.Guard{Authn: aggregator, Authz: aggregation.NewReviewer(c), Log: log}, sign: signer.upload, lead: forwarder.Serve,
	}
	profile := &tlsprofile.Source{Client: c, Log: log}
	return &serving.Server{
		Name: "cdi-apiserver", Port: o.Port, Handler: newHandler(api, reviews.Handlers(), log),
		// Certificates are asked for, not demanded: webhooks and probes come without; who needs an identity is checked per request.
		Certificate: tlsfile.Mounted(o.ServingDir), Profile: profile.Get, ClientAuth: tls.RequestClientCert,
		LameDuck: o.LameDuck, Drain: o.Drain, Log: log,
		Checks: []func() error{
			aggregator.Ready,
			func() error { _, err := key.Get(); return err },
			func() error { _, err := forwarder.Certificate.Get(); return err },
			func() error { _, err := forwarder.Authorities.Get(); return err },
		},
		Background: []func(context.Context) error{
			profile.Run, footprint.Trimmer{Log: logr.FromSlogHandler(log.Handler())}.Start,
			func(ctx context.Context) error { aggregator.Run(ctx); return nil },
		},
	}, nil
}
