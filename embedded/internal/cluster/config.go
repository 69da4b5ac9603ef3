package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/pki"
	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/render"
)

// writeConfig renders what the host's components read, and the administrator's kubeconfig.
func writeConfig(o options.Options, c plan.Cluster) error {
	store := pki.Store{Dir: o.PKIDir()}
	server := fmt.Sprintf("https://127.0.0.1:%d", o.APIServerPort)
	for _, k := range []struct{ path, context, user string }{
		{o.Kubeconfig(), render.ContextName(o.Instance), pki.Admin},
		{kubeconfigPath(o, unitManager), "local", pki.Manager},
		{kubeconfigPath(o, unitScheduler), "local", pki.Scheduler},
		{kubeconfigPath(o, unitDNS), "local", pki.DNS},
	} {
		data, err := render.Kubeconfig(server, k.context, k.user, store)
		if err != nil {
			return err
		}
		if err := write(k.path, data); err != nil {
			return err
		}
	}
	resolv, err := upstreamResolvers(o, c)
	if err != nil {
		return err
	}
	corefile := render.Corefile(c, kubeconfigPath(o, unitDNS), resolv)
	if err := write(filepath.Join(o.ConfigDir(), "Corefile"), corefile); err != nil {
		return err
	}
	return write(filepath.Join(o.ConfigDir(), "audit-policy.yaml"), []byte(auditPolicy))
}

// upstreamResolvers copies the host's resolvers to a file for CoreDNS and returns its path, which is empty if there are none.
func upstreamResolvers(o options.Options, c plan.Cluster) (string, error) {
	data, err := os.ReadFile(render.ResolvConf)
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("read the host's resolvers: %w", err)
	}
	servers := render.Nameservers(string(data), c)
	if len(servers) == 0 {
		return "", nil
	}
	path := filepath.Join(o.ConfigDir(), "upstream-resolv.conf")
	return path, write(path, []byte("nameserver "+strings.Join(servers, "\nnameserver ")+"\n"))
}

func write(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return os.Rename(path+".new", path)
}
