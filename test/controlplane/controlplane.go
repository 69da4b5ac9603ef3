// Package controlplane starts a real etcd and kube-apiserver for one test. Nothing runs behind them: no node, no controller.
package controlplane

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"virtctl/internal/certificates/pkitest"
)

// startTime is how long a control plane may take to start and to serve its kinds, on a machine that does other things as well.
const startTime = 2 * time.Minute

// ControlPlane is a running API server.
type ControlPlane struct {
	t testing.TB
	// Config is the administrator's.
	Config *rest.Config
	// Front signs the certificate that lets the API server name users to servers behind it.
	Front *pkitest.Authority
	audit string
}

// Start starts a control plane that knows these kinds, that keeps an audit log and lets servers behind it pass users on. It ends
// with the test.
func Start(t testing.TB, definitions []*apiextensionsv1.CustomResourceDefinition) *ControlPlane {
	t.Helper()
	dir := t.TempDir()
	cp := &ControlPlane{t: t, audit: filepath.Join(dir, "audit.log")}
	cp.Front = pkitest.New(t, "front-proxy-ca")
	cp.Front.Dir(t, dir, "front-proxy-client")
	pkitest.Write(t, filepath.Join(dir, "ca.crt"), cp.Front.PEM)
	pkitest.Write(t, filepath.Join(dir, "policy.yaml"),
		[]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n"))
	ctrl.SetLogger(klog.Background())
	env := &envtest.Environment{
		CRDs: definitions, ControlPlaneStartTimeout: startTime, CRDInstallOptions: envtest.CRDInstallOptions{MaxTime: startTime},
	}
	env.ControlPlane.Etcd = &envtest.Etcd{Path: binary(t, "etcd"), StartTimeout: startTime}
	server := env.ControlPlane.GetAPIServer()
	server.Path = binary(t, "kube-apiserver")
	for flag, value := range map[string]string{
		"authorization-mode": "RBAC", "audit-policy-file": filepath.Join(dir, "policy.yaml"), "audit-log-path": cp.audit,
		"enable-aggregator-routing": "true", "requestheader-client-ca-file": filepath.Join(dir, "ca.crt"),
		"requestheader-allowed-names": "front-proxy-client", "requestheader-username-headers": "X-Remote-User",
		"requestheader-group-headers": "X-Remote-Group", "requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"proxy-client-cert-file": filepath.Join(dir, "tls.crt"), "proxy-client-key-file": filepath.Join(dir, "tls.key"),
	} {
		server.Configure().Set(flag, value)
	}
	// What started is stopped, also when the rest did not.
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	var err error
	if cp.Config, err = env.Start(); err != nil {
		t.Fatal(err)
	}
	cp.Config.QPS = -1
	return cp
}

// binary is a script that runs one of virt-kube's servers: envtest wants a program of its own for each.
func binary(t testing.TB, name string) string {
	t.Helper()
	kube := os.Getenv("VIRT_KUBE")
	if kube == "" {
		kube = filepath.Join(root(t), "bin/virt-kube")
	}
	if _, err := os.Stat(kube); err != nil {
		t.Fatalf("no virt-kube: %v; run `make virt-kube`, or set VIRT_KUBE", err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec "+kube+" "+name+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// root is the repository: the directory of the test or one above it that has the module's file.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			t.Fatalf("no go.mod above the test: %v", err)
		}
		dir = filepath.Dir(dir)
	}
}

// Definitions turns definitions into what Start takes: those of the platform, and the one of its own resource.
func Definitions(t testing.TB, all func() ([]*unstructured.Unstructured, error), own func() (*unstructured.Unstructured, error)) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	list, err := all()
	if err != nil {
		t.Fatal(err)
	}
	one, err := own()
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*apiextensionsv1.CustomResourceDefinition
	for _, d := range append(list, one) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(d.Object, crd); err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, crd)
	}
	return parsed
}

// As is the configuration with another user agent.
func (cp *ControlPlane) As(agent string) *rest.Config {
	config := rest.CopyConfig(cp.Config)
	config.UserAgent = agent
	return config
}

// Account is the configuration of a client with a ServiceAccount's rights and no more.
func (cp *ControlPlane) Account(namespace, name string) *rest.Config {
	config := rest.CopyConfig(cp.Config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + name,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	return config
}

// OwnAddress is one of this machine's addresses that a Service may point to.
func OwnAddress(t testing.TB) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr().String()
		}
	}
	t.Fatal("this machine has no address that a Service may point to")
	return ""
}
