package handler

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/version"
)

// gcPercent: on every node the agent idles most of the time, and trades a little CPU for memory.
const gcPercent = 50

// Command is the program virt-handler.
func Command() *cobra.Command {
	o := Options{}
	kubeconfig := ""
	c := &cobra.Command{
		Use:           "virt-handler",
		Short:         "The node agent: runs this node's virtual machines in their launcher pods",
		Version:       version.Version(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.NodeName == "" {
				return errors.New("which node is this? set NODE_NAME or give --node-name")
			}
			if o.Namespace == "" {
				return errors.New("where is the platform installed? set NAMESPACE or give --namespace")
			}
			ctrl.SetLogger(klog.NewKlogr())
			config, err := clusterConfig(kubeconfig)
			if err != nil {
				return err
			}
			debug.SetGCPercent(gcPercent)
			klog.InfoS("virt-handler starts", "version", version.Version(), "node", o.NodeName)
			if err := Run(cmd.Context(), config, o); err != nil {
				return fmt.Errorf("run virt-handler: %w", err)
			}
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of the Node this runs on")
	flags.StringVar(&o.Namespace, "namespace", os.Getenv("NAMESPACE"), "namespace the platform is installed in")
	flags.StringVar(&o.PodIP, "pod-ip", os.Getenv("POD_IP"), "address other nodes reach this pod at")
	flags.StringVar(&o.KubeletDir, "kubelet-dir", "/var/lib/kubelet", "directory of this node's kubelet")
	flags.StringVar(&o.ProbeDir, "probe-dir", "/var/run/virt-probe", "directory with what `virt-launcher probe` found out about this node")
	flags.IntVar(&o.Port, "port", 8443, "serve /metrics, /healthz and /readyz over TLS on this port")
	flags.IntVar(&o.ConsolePort, "console-server-port", 8186, "serve virt-api on this port")
	flags.IntVar(&o.MigrationPort, "migration-port", 8188, "take migrations from other nodes on this port")
	flags.StringVar(&o.MigrationCerts, "migration-cert-dir", "/etc/virt-handler/migrationclientcertificates",
		"directory with tls.crt and tls.key for sending guests to other nodes")
	flags.IntVar(&o.MaxDevices, "max-devices", 1000, "how many pods can use each device at once")
	flags.StringVar(&o.Certs.Dir, "cert-dir", "/etc/virt-handler/servercertificates", "directory with tls.crt and tls.key")
	flags.StringVar(&o.Certs.CA, "ca-file", "/etc/virt-ca/ca-bundle", "certificate authorities of the platform")
	flags.StringVar(&kubeconfig, "kubeconfig", "", "how to reach the cluster; by default as a pod of it")
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	flags.AddGoFlag(logging.Lookup("v"))
	return c
}

func clusterConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; outside of a pod, give --kubeconfig", err)
	}
	return config, nil
}
