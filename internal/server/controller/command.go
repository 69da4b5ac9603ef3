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

	"virtctl/internal/server/leading"
	"virtctl/internal/version"
)

// Flags are what the role is told on its command line.
type Flags struct {
	Port int
	// LauncherImage and PullSecrets are for launcher pods.
	LauncherImage string
	PullSecrets   []string
	// CertDir holds tls.crt and tls.key for the metrics port.
	CertDir string
	// Namespace is where the platform is installed.
	Namespace string
	// Replica is nil only where exactly one runs.
	Replica *leading.Replica
}

// Command is `virt-server controller`.
func Command() *cobra.Command {
	f, elect := Flags{}, true
	c := &cobra.Command{
		Use:           "controller",
		Short:         "Turn VirtualMachines into running pods and keep their status true",
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
	c.Flags().StringVar(&f.LauncherImage, "launcher-image", os.Getenv("LAUNCHER_IMAGE"), "image of virt-launcher")
	c.Flags().StringSliceVar(&f.PullSecrets, "image-pull-secret", nil, "Secret in the VM's namespace for pulling the launcher image")
	c.Flags().StringVar(&f.CertDir, "cert-dir", "/etc/virt-controller/certificates", "directory with tls.crt and tls.key")
	c.Flags().StringVar(&f.Namespace, "namespace", os.Getenv("NAMESPACE"), "namespace the platform is installed in")
	c.Flags().BoolVar(&elect, "leader-elect", true, "let one of several replicas work at a time")
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	c.Flags().AddGoFlag(logging.Lookup("v"))
	return c
}

func run(ctx context.Context, f Flags) error {
	if f.LauncherImage == "" {
		return errors.New("no launcher image; give --launcher-image")
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
	klog.InfoS("virt-controller starts", "version", version.Version(), "launcherImage", f.LauncherImage, "namespace", f.Namespace)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run the controllers: %w", err)
	}
	return nil
}
