// Package api is virt-api: the platform's end of the Kubernetes API. It answers the subresources of VMs and judges VMs and
// their like on admission.
package api

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
)

// Options is how the server is run.
type Options struct {
	Port int
	// Kubeconfig is for running outside a cluster; empty means inside.
	Kubeconfig string
	// Namespace is where the platform is installed.
	Namespace string
	// ServingDir and ClientDir hold tls.crt and tls.key: what we show to clients, and what we show to node agents.
	ServingDir, ClientDir string
	// Authorities is the file with the platform's certificate authorities.
	Authorities string
	// LameDuck is how long the server goes on answering after it said that it is not ready, Drain how long open sessions may
	// last after that.
	LameDuck, Drain time.Duration
}

// Command is `virt-server api`.
func Command() *cobra.Command {
	o := Options{
		Port: 8443, Namespace: os.Getenv("NAMESPACE"),
		ServingDir: "/etc/virt-api/certificates", ClientDir: "/etc/virt-handler/clientcertificates",
		Authorities: "/etc/virt-ca/ca-bundle", LameDuck: 5 * time.Second, Drain: 5 * time.Minute,
	}
	if o.Namespace == "" {
		o.Namespace = "kubevirt"
	}
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Serve the subresources of VMs and judge VMs on admission",
		Long: `Serves the API group subresources.kubevirt.io behind the Kubernetes API server's aggregation layer, and the admission
webhooks of the platform, over HTTPS on one port. On SIGTERM it stops being ready, and waits for open consoles to end.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)).With("component", "virt-api")
			klog.SetSlogLogger(log)
			crlog.SetLogger(logr.FromSlogHandler(log.Handler()))
			cluster, err := restConfig(o.Kubeconfig)
			if err != nil {
				return fmt.Errorf("start virt-api: %w", err)
			}
			app, err := newApp(cluster, o, log)
			if err != nil {
				return fmt.Errorf("start virt-api: %w", err)
			}
			return app.run(ctx)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Port, "port", o.Port, "port to listen on")
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig file, when not running in a pod of the cluster")
	f.StringVar(&o.Namespace, "namespace", o.Namespace, "namespace the platform is installed in (default from $NAMESPACE)")
	f.StringVar(&o.ServingDir, "serving-certificates", o.ServingDir, "directory with tls.crt and tls.key to serve with")
	f.StringVar(&o.ClientDir, "client-certificates", o.ClientDir, "directory with tls.crt and tls.key to call virt-handler with")
	f.StringVar(&o.Authorities, "ca-bundle", o.Authorities, "file with the certificate authorities of the platform")
	f.DurationVar(&o.LameDuck, "lame-duck", o.LameDuck, "how long to go on answering after becoming unready on SIGTERM")
	f.DurationVar(&o.Drain, "drain", o.Drain, "how long open consoles may last after that; the pod's grace period must be longer")
	return cmd
}
