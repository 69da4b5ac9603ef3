package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"virtctl/embedded/internal/options"
)

// clusterFlags are the settings of a cluster on the command line. A setting that is not given keeps the value it had at the last start.
func clusterFlags(cmd *cobra.Command) func() (options.Options, error) {
	d := options.Default()
	d.StateDir = defaultStateDir()
	given := d
	f := cmd.Flags()
	f.StringVar(&given.Instance, "instance", d.Instance, "name that tells this cluster from another on this machine")
	f.IntVar(&given.Nodes, "nodes", d.Nodes, "number of nodes on this machine")
	f.StringVar(&given.StateDir, "state-dir", d.StateDir, "directory of the cluster's state, also $"+StateDirEnv)
	f.StringVar(&given.RunDir, "run-dir", d.RunDir, "directory of sockets and locks")
	f.StringVar(&given.PodCIDR, "pod-cidr", d.PodCIDR, "IPv4 range of pods")
	f.StringVar(&given.PodCIDR6, "pod-cidr6", d.PodCIDR6, "IPv6 range of pods; empty together with the others for IPv4 only")
	f.StringVar(&given.ServiceCIDR, "service-cidr", d.ServiceCIDR, "IPv4 range of services")
	f.StringVar(&given.ServiceCIDR6, "service-cidr6", d.ServiceCIDR6, "IPv6 range of services")
	f.StringVar(&given.NodeCIDR, "node-cidr", d.NodeCIDR, "IPv4 range of the nodes on the bridge")
	f.StringVar(&given.NodeCIDR6, "node-cidr6", d.NodeCIDR6, "IPv6 range of the nodes on the bridge")
	f.StringVar(&given.Bridge, "bridge", d.Bridge, "name of the bridge between the nodes")
	f.IntVar(&given.APIServerPort, "apiserver-port", d.APIServerPort, "port of the API server")
	f.IntVar(&given.MaxPods, "max-pods", d.MaxPods, "most pods on one node")
	f.BoolVar(&given.Audit, "audit", d.Audit, "write the API server's audit log (level Metadata) to logs/audit.log")
	f.BoolVar(&given.Expose, "expose", d.Expose, "let other machines reach the API server")
	return func() (options.Options, error) { return merge(f, given) }
}

// fixed are the settings that a cluster's stored objects depend on.
func fixed() []string {
	return []string{"instance", "pod-cidr", "pod-cidr6", "service-cidr", "service-cidr6", "node-cidr", "node-cidr6"}
}

// merge puts the given flags over the saved settings.
func merge(f *pflag.FlagSet, given options.Options) (options.Options, error) {
	saved, err := options.Load(given.StateDir)
	if errors.Is(err, options.ErrNoCluster) {
		return given, given.Validate()
	}
	if err != nil {
		return given, err
	}
	was := map[string]string{
		"instance": saved.Instance, "pod-cidr": saved.PodCIDR, "pod-cidr6": saved.PodCIDR6, "service-cidr": saved.ServiceCIDR,
		"service-cidr6": saved.ServiceCIDR6, "node-cidr": saved.NodeCIDR, "node-cidr6": saved.NodeCIDR6,
	}
	for _, name := range fixed() {
		if flag := f.Lookup(name); flag.Changed && flag.Value.String() != was[name] {
			return given, fmt.Errorf("--%s is %q in this cluster's state and cannot change: remove the state with 'virt-kube down --purge', "+
				"or give another --state-dir", name, was[name])
		}
	}
	out := saved
	for name, set := range map[string]func(){
		"nodes":          func() { out.Nodes = given.Nodes },
		"run-dir":        func() { out.RunDir = given.RunDir },
		"bridge":         func() { out.Bridge = given.Bridge },
		"apiserver-port": func() { out.APIServerPort = given.APIServerPort },
		"max-pods":       func() { out.MaxPods = given.MaxPods },
		"audit":          func() { out.Audit = given.Audit },
		"expose":         func() { out.Expose = given.Expose },
	} {
		if f.Changed(name) {
			set()
		}
	}
	return out, out.Validate()
}
