package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"virtctl/embedded/internal/capability"
	"virtctl/embedded/internal/images"
	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/pki"
	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/render"
)

// configDir is where the node's rendered configuration lies.
func configDir(o options.Options, node string) string {
	return filepath.Join(o.NodeDir(node), "config")
}

// writeConfig renders everything that the node's programs read.
func writeConfig(o options.Options, c plan.Cluster, n plan.Node) error {
	dir := configDir(o, n.Name)
	runc, err := exec.LookPath("runc")
	if err != nil {
		return fmt.Errorf("find runc: %w; run 'apt-get install runc'", err)
	}
	store := pki.Store{Dir: o.PKIDir()}
	server := fmt.Sprintf("https://%s:%d", c.GatewayIP(), o.APIServerPort)
	_, noBridgeFilter := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
	proxyKubeconfig := filepath.Join(dir, "kube-proxy.kubeconfig")
	for _, f := range []struct {
		path   string
		render func() ([]byte, error)
	}{
		{filepath.Join(dir, "containerd.toml"), func() ([]byte, error) {
			return render.ContainerdConfig(render.Containerd{
				Runc: runc, CNIBinDirs: []string{"/opt/cni/bin", o.BinDir()}, PauseImage: images.PauseImage, NoOOMScore: !capability.SysResource(),
			})
		}},
		{filepath.Join(dir, "kubelet.yaml"), func() ([]byte, error) { return render.Kubelet(o, c, n) }},
		{filepath.Join(dir, "kubelet.kubeconfig"), func() ([]byte, error) {
			return render.Kubeconfig(server, "node", pki.Kubelet(n.Name), store)
		}},
		{filepath.Join(dir, "kube-proxy.yaml"), func() ([]byte, error) {
			return render.KubeProxy(c, n, proxyKubeconfig, noBridgeFilter != nil)
		}},
		{proxyKubeconfig, func() ([]byte, error) { return render.Kubeconfig(server, "node", pki.Proxy, store) }},
		{filepath.Join(render.CNIConfDir, "10-virt-kube.conflist"), func() ([]byte, error) { return render.CNI(n) }},
	} {
		data, err := f.render()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		if err := os.WriteFile(f.path, data, 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}
