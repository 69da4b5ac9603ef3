// Package apiserver is cdi-apiserver: it gives tokens for uploads, leads uploads that come through the Kubernetes API server to
// their claims, and judges CDI's objects on admission.
package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"virtctl/internal/aggregation"
	"virtctl/internal/cdi/connect"
	"virtctl/internal/cdi/ingress"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/serving"
	"virtctl/internal/cdi/tlsprofile"
	"virtctl/internal/cdi/token"
	"virtctl/internal/footprint"
	"virtctl/internal/server/cdi/apiserver/review"
	"virtctl/internal/tlsfile"
)

// Command is `virt-server cdi-apiserver`.
func Command() *cobra.Command {
	return ingress.Command(&cobra.Command{
		Use:   "cdi-apiserver",
		Short: "Give upload tokens, lead uploads to their claims, judge CDI's objects on admission",
		Long: `Serves the API group upload.cdi.kubevirt.io behind the Kubernetes API server's aggregation layer, and CDI's admission
webhooks, over HTTPS on one port. On SIGTERM it stops being ready, and waits for open uploads to end.`,
	}, ingress.Defaults(names.SecretAPICert, names.SigningKeyPrivate), New)
}

// New puts the server together.
func New(config *rest.Config, o ingress.Options, log *slog.Logger) (*serving.Server, error) {
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
	forwarder := o.Forwarder(c, log)
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
		Checks: append(ingress.Mounted(key.Get, forwarder), aggregator.Ready),
		Background: []func(context.Context) error{
			profile.Run, footprint.Trimmer{Log: logr.FromSlogHandler(log.Handler())}.Start,
			func(ctx context.Context) error { aggregator.Run(ctx); return nil },
		},
	}, nil
}
