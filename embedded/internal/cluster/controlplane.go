package cluster

import (
	"fmt"
	"path/filepath"
	"strings"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/pki"
	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/render"
	"virtctl/embedded/internal/supervise"
)

// Names of the host's units.
const (
	unitEtcd      = "etcd"
	unitAPIServer = "kube-apiserver"
	unitManager   = "kube-controller-manager"
	unitScheduler = "kube-scheduler"
	unitDNS       = "coredns"
)

// kubeconfigPath is the kubeconfig of a component on the host.
func kubeconfigPath(o options.Options, component string) string {
	return filepath.Join(o.ConfigDir(), component+".kubeconfig")
}

// controlPlane describes the programs that run on the host.
func controlPlane(o options.Options, c plan.Cluster) []supervise.Spec {
	store := pki.Store{Dir: o.PKIDir()}
	spec := func(name string, env []string, args []string) supervise.Spec {
		return supervise.Spec{
			Name: name, Path: "/proc/self/exe", Args: append([]string{"virt-kube", name}, args...),
			Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, env...),
			Dir: "/", Log: o.LogFile("", name),
		}
	}
	etcd := spec(unitEtcd, []string{"GOGC=50"}, etcdArgs(o))
	etcd.Notify, etcd.Dir = true, o.EtcdRunDir()
	apiserver := spec(unitAPIServer, []string{"GOGC=50"}, apiserverArgs(o, c, store))
	apiserver.Notify = true
	return []supervise.Spec{
		etcd,
		apiserver,
		spec(unitManager, []string{"GOGC=50"}, managerArgs(o, c, store)),
		spec(unitScheduler, []string{"GOGC=50"}, []string{
			"--kubeconfig=" + kubeconfigPath(o, unitScheduler), "--leader-elect=false", "--secure-port=0", "--profiling=false",
		}),
		spec(unitDNS, []string{"GOGC=50"}, []string{"-conf", filepath.Join(o.ConfigDir(), "Corefile")}),
	}
}

// etcdArgs: one member that nobody else talks to. The advertised URLs are only names; the sockets lie in its own directory.
func etcdArgs(o options.Options) []string {
	return []string{
		"--name=virt-kube",
		"--data-dir=" + o.EtcdDir(),
		"--listen-client-urls=unix://" + o.EtcdSocket(),
		"--advertise-client-urls=http://localhost:2379",
		"--listen-peer-urls=unix://peer.sock",
		"--initial-advertise-peer-urls=http://localhost:2380",
		"--initial-cluster=virt-kube=http://localhost:2380",
		"--snapshot-count=10000",
		"--quota-backend-bytes=4294967296",
		"--enable-grpc-gateway=false",
		"--log-level=warn",
	}
}

func apiserverArgs(o options.Options, c plan.Cluster, s pki.Store) []string {
	var services []string
	for _, p := range c.ServiceCIDRs {
		services = append(services, p.String())
	}
	args := []string{
		"--etcd-servers=unix://" + o.EtcdSocket(),
		"--advertise-address=" + c.GatewayIP().String(),
		fmt.Sprintf("--secure-port=%d", o.APIServerPort),
		"--service-cluster-ip-range=" + strings.Join(services, ","),
		"--tls-cert-file=" + s.Cert(pki.APIServer),
		"--tls-private-key-file=" + s.Key(pki.APIServer),
		"--client-ca-file=" + s.Cert(pki.CA),
		"--kubelet-client-certificate=" + s.Cert(pki.KubeletClient),
		"--kubelet-client-key=" + s.Key(pki.KubeletClient),
		"--kubelet-certificate-authority=" + s.Cert(pki.CA),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + render.ClusterDomain,
		"--service-account-key-file=" + filepath.Join(s.Dir, pki.ServiceAccount+".pub"),
		"--service-account-signing-key-file=" + s.Key(pki.ServiceAccount),
		"--requestheader-client-ca-file=" + s.Cert(pki.FrontProxyCA),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + s.Cert(pki.FrontProxy),
		"--proxy-client-key-file=" + s.Key(pki.FrontProxy),
		// The host has routes to the pods but no service rules: extension servers and webhooks are reached by endpoint.
		"--enable-aggregator-routing=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--profiling=false",
		"--v=1",
	}
	if o.Audit {
		args = append(args,
			"--audit-policy-file="+filepath.Join(o.ConfigDir(), "audit-policy.yaml"),
			"--audit-log-path="+filepath.Join(o.LogDir(), "audit.log"),
			"--audit-log-maxsize=200", "--audit-log-maxbackup=2",
		)
	}
	return args
}

func managerArgs(o options.Options, c plan.Cluster, s pki.Store) []string {
	return []string{
		"--kubeconfig=" + kubeconfigPath(o, unitManager),
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + s.Key(pki.ServiceAccount),
		"--root-ca-file=" + s.Cert(pki.CA),
		"--cluster-signing-cert-file=" + s.Cert(pki.CA),
		"--cluster-signing-key-file=" + s.Key(pki.CA),
		"--cluster-name=virt-kube-" + o.Instance,
		// Addresses are planned, and there is no cloud.
		"--allocate-node-cidrs=false",
		"--controllers=*," + strings.Join([]string{
			"-nodeipam", "-node-route-controller", "-cloud-node-lifecycle-controller", "-service-lb-controller",
			"-bootstrap-signer-controller", "-token-cleaner-controller",
		}, ","),
		"--v=1",
	}
}

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`
