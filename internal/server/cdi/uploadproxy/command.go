// Package uploadproxy is cdi-uploadproxy: the way in for uploads from outside the cluster. Who shows a token from
// cdi-apiserver is led to the upload server of the claim that the token is for.
package uploadproxy

import (
	"context"
	"crypto/tls"
	"log/slog"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"virtctl/internal/cdi/connect"
	"virtctl/internal/cdi/ingress"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/serving"
	"virtctl/internal/cdi/tlsprofile"
	"virtctl/internal/cdi/token"
	"virtctl/internal/footprint"
	"virtctl/internal/tlsfile"
)

// Command is `virt-server cdi-uploadproxy`.
func Command() *cobra.Command {
	return ingress.Command(&cobra.Command{
		Use:   "cdi-uploadproxy",
		Short: "Lead uploads from outside to the claims they are for",
	}, ingress.Defaults(names.SecretProxyCert, names.SigningKeyPublic), New)
}

// New puts the proxy together.
func New(config *rest.Config, o ingress.Options, log *slog.Logger) (*serving.Server, error) {
	c, err := connect.Client(config)
	if err != nil {
		return nil, err
	}
	key := token.PublicFile(o.SigningKey)
	forwarder := o.Forwarder(c, log)
	profile := &tlsprofile.Source{Client: c, Log: log}
	return &serving.Server{
		Name: "cdi-uploadproxy", Port: o.Port, Handler: NewHandler(key.Get, forwarder.Serve, log),
		Certificate: tlsfile.Mounted(o.ServingDir), Profile: profile.Get, ClientAuth: tls.NoClientCert,
		LameDuck: o.LameDuck, Drain: o.Drain, Log: log,
		Checks:     ingress.Mounted(key.Get, forwarder),
		Background: []func(context.Context) error{profile.Run, footprint.Trimmer{Log: logr.FromSlogHandler(log.Handler())}.Start},
	}, nil
}
