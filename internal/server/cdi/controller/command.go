package controller

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/server/cdi/controller/importcron"
	"virtctl/internal/server/leading"
	"virtctl/internal/version"
)

// Flags are what the role is told on its command line.
type Flags struct {
	Port int
	// WorkerImage is the image of importers, upload servers and clone sources.
	WorkerImage string
	PullPolicy  string
	// CertDir holds tls.crt and tls.key for the metrics port.
	CertDir string
	// Namespace is where the platform is installed.
	Namespace string
	// Digest asks registries for DataImportCrons; nil is the real way.
	Digest importcron.DigestFunc
	// Replica is nil only where exactly one runs.
	Replica *leading.Replica
}

// Command is `virt-server cdi-controller`.
func Command() *cobra.Command {
	f, elect := Flags{}, true
	c := &cobra.Command{
		Use:           "cdi-controller",
		Short:         "Fill claims with disks: imports, uploads and clones",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if elect {
				var err error
				if f.Replica, err = leading.Self(component, f.Namespace); err != nil {
					return err
				}
			}
			return run(cmd.Context(), f)
		},
	}
	c.Flags().IntVar(&f.Port, "port", 8443, "serve /metrics, /healthz and /readyz over TLS on this port; 0 serves nothing")
	c.Flags().StringVar(&f.WorkerImage, "worker-image", os.Getenv("WORKER_IMAGE"), "image with "+workerProgram)
	c.Flags().StringVar(&f.PullPolicy, "image-pull-policy", orDefault(os.Getenv("PULL_POLICY"), "IfNotPresent"), "when nodes pull the worker's image: Always, IfNotPresent or Never")
	c.Flags().StringVar(&f.CertDir, "cert-dir", "/etc/cdi-controller/certificates", "directory with tls.crt and tls.key for the metrics port")
	c.Flags().StringVar(&f.Namespace, "namespace", os.Getenv("NAMESPACE"), "namespace the platform is installed in")
	c.Flags().BoolVar(&elect, "leader-elect", true, "let one of several replicas work at a time")
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	c.Flags().AddGoFlag(logging.Lookup("v"))
	return c
}

func run(ctx context.Context, f Flags) error {
	if f.WorkerImage == "" {
		return errors.New("no worker image; give --worker-image")
	}
	if f.Namespace == "" {
		return errors.New("no install namespace; set NAMESPACE or give --namespace")
	}
	ctrl.SetLogger(klog.NewKlogr())
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	mgr, err := NewManager(ctx, config, f)
	if err != nil {
		return err
	}
	klog.InfoS("cdi-controller starts", "version", version.Version(), "workerImage", f.WorkerImage, "namespace", f.Namespace)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run the controllers: %w", err)
	}
	return nil
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
