package options

import (
	"path/filepath"
	"strings"
)

// Kubeconfig is the administrator's kubeconfig.
func (o Options) Kubeconfig() string { return filepath.Join(o.StateDir, "kubeconfig") }

// PKIDir holds certificates and keys.
func (o Options) PKIDir() string { return filepath.Join(o.StateDir, "pki") }

// EtcdDir holds the cluster's objects.
func (o Options) EtcdDir() string { return filepath.Join(o.StateDir, "etcd") }

// EtcdRunDir holds etcd's sockets.
func (o Options) EtcdRunDir() string { return filepath.Join(o.RunDir, "etcd") }

// EtcdSocket is where etcd listens: a file that only root may open needs neither port nor certificate.
func (o Options) EtcdSocket() string { return filepath.Join(o.EtcdRunDir(), "client.sock") }

// ConfigDir holds the rendered configuration of the components.
func (o Options) ConfigDir() string { return filepath.Join(o.StateDir, "config") }

// LogDir holds one log file per component.
func (o Options) LogDir() string { return filepath.Join(o.StateDir, "logs") }

// LogFile is the log of one component of the host, or of a node when node is not empty.
func (o Options) LogFile(node, component string) string {
	if node != "" {
		component = node + "-" + component
	}
	return filepath.Join(o.LogDir(), component+".log")
}

// BinDir holds the small programs that virt-kube carries.
func (o Options) BinDir() string { return filepath.Join(o.StateDir, "bin") }

// VolumeDir holds the persistent volumes.
func (o Options) VolumeDir() string { return filepath.Join(o.StateDir, "volumes") }

// NodeDir holds what belongs to one node alone.
func (o Options) NodeDir(node string) string { return filepath.Join(o.StateDir, "nodes", node) }

// ControlSocket is where the running server listens for commands.
func (o Options) ControlSocket() string { return filepath.Join(o.RunDir, "control.sock") }

// LockFile is locked by the running server.
func (o Options) LockFile() string { return filepath.Join(o.RunDir, "lock") }

// CgroupRoot is the parent of all the instance's cgroups, from the mount point of a hierarchy.
func (o Options) CgroupRoot() string { return "/virt-kube-" + o.Instance }

// NodeCgroup is the cgroup that holds everything of one node.
func (o Options) NodeCgroup(node string) string { return o.CgroupRoot() + "/" + node }

// NftTable is the name of the host's nftables table.
func (o Options) NftTable() string { return "virt_kube_" + strings.ReplaceAll(o.Instance, "-", "_") }

// HostLink is the host's end of a node's veth pair; link names are limited to 15 characters.
func (o Options) HostLink(node string) string { return o.Bridge + "-" + node[len("node"):] }
