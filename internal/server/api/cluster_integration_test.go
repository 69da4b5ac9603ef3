//go:build integration

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"virtctl/internal/certificates/pkitest"
	"virtctl/internal/crds"
	"virtctl/internal/install/components"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/routes"
)

const installNamespace = "kubevirt"

// cluster is a real API server with virt-api behind it: aggregated API, webhooks, and no more rights than an installation gives.
type cluster struct {
	t        *testing.T
	config   *rest.Config
	c        client.Client
	proxyCA  *pkitest.Authority
	endpoint string
}

// binary is a script that runs one of virt-kube's servers: envtest wants a program of its own for each.
func binary(t *testing.T, name string) string {
	t.Helper()
	kube := os.Getenv("VIRT_KUBE")
	if kube == "" {
		kube, _ = filepath.Abs("../../../bin/virt-kube")
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

func startCluster(t *testing.T) *cluster {
	t.Helper()
	cl := &cluster{t: t, proxyCA: pkitest.New(t, "front-proxy-ca")}
	dir := t.TempDir()
	cl.proxyCA.Dir(t, dir, "front-proxy-client")
	pkitest.Write(t, filepath.Join(dir, "ca.crt"), cl.proxyCA.PEM)
	env := &envtest.Environment{CRDs: definitions(t), ControlPlaneStartTimeout: time.Minute}
	env.ControlPlane.Etcd = &envtest.Etcd{Path: binary(t, "etcd")}
	server := env.ControlPlane.GetAPIServer()
	server.Path = binary(t, "kube-apiserver")
	server.Configure().Set("authorization-mode", "RBAC").Set("enable-aggregator-routing", "true").
		Set("requestheader-client-ca-file", filepath.Join(dir, "ca.crt")).Set("requestheader-allowed-names", "front-proxy-client").
		Set("requestheader-username-headers", "X-Remote-User").Set("requestheader-group-headers", "X-Remote-Group").
		Set("requestheader-extra-headers-prefix", "X-Remote-Extra-").
		Set("proxy-client-cert-file", filepath.Join(dir, "tls.crt")).Set("proxy-client-key-file", filepath.Join(dir, "tls.key"))
	var err error
	if cl.config, err = env.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	cl.config.QPS = -1
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	if cl.c, err = client.New(cl.config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	cl.prepare()
	cl.serve()
	return cl
}

func definitions(t *testing.T) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	all, err := crds.Platform()
	if err != nil {
		t.Fatal(err)
	}
	own, err := crds.KubeVirt()
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*apiextensionsv1.CustomResourceDefinition
	for _, d := range append(all, own) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(d.Object, crd); err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, crd)
	}
	return parsed
}

func (cl *cluster) create(o client.Object) {
	cl.t.Helper()
	if err := cl.c.Create(context.Background(), o); err != nil {
		cl.t.Fatal(err)
	}
}

func (cl *cluster) prepare() {
	cl.t.Helper()
	for _, name := range []string{installNamespace, "lab"} {
		cl.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for _, o := range components.Accounts(components.Options{Namespace: installNamespace}) {
		cl.create(o.(client.Object))
	}
	for name, rules := range routes.ClusterRoles() {
		cl.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "subresources:" + name}, Rules: rules})
	}
	cl.create(&v1.KubeVirt{ObjectMeta: metav1.ObjectMeta{Name: "kubevirt", Namespace: installNamespace}})
}

// grant binds a role of the users to a user in the namespace lab.
func (cl *cluster) grant(user, role string) {
	cl.t.Helper()
	cl.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: user + "-", Namespace: "lab"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "subresources:kubevirt.io:" + role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	})
}

// ownAddress is one of this machine's addresses that a Service may point to.
func ownAddress(t *testing.T) string {
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

// serve runs virt-api with its ServiceAccount's rights, and tells the API server about it.
func (cl *cluster) serve() {
	t := cl.t
	t.Helper()
	ca, dir := pkitest.New(t, "kubevirt-ca"), t.TempDir()
	ca.Dir(t, dir, "virt-api."+installNamespace+".svc")
	pkitest.Write(t, filepath.Join(dir, "ca-bundle"), ca.PEM)
	account := rest.CopyConfig(cl.config)
	account.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + installNamespace + ":kubevirt-apiserver", Groups: []string{"system:serviceaccounts", "system:authenticated"},
	}
	options := Options{Namespace: installNamespace, ServingDir: dir, ClientDir: dir, Authorities: filepath.Join(dir, "ca-bundle"), Drain: time.Second}
	a, err := newApp(account, options, quiet())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	a.listen = func(context.Context) (net.Listener, error) { return listener, nil }
	cl.endpoint = listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	waitFor(t, func() bool { return a.health.ready() == nil })
	cl.register(ca.PEM, listener.Addr().(*net.TCPAddr))
}

func (cl *cluster) register(ca []byte, at *net.TCPAddr) {
	cl.t.Helper()
	port, name, protocol, yes := int32(at.Port), "https", corev1.ProtocolTCP, true
	cl.create(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: admission.ServiceName, Namespace: installNamespace},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: name, Port: 443}}},
	})
	cl.create(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: admission.ServiceName, Namespace: installNamespace,
			Labels: map[string]string{discoveryv1.LabelServiceName: admission.ServiceName},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{at.IP.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	})
	for _, v := range routes.Versions() {
		service := map[string]any{
			"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": v + "." + routes.Group},
			"spec": map[string]any{
				"group": routes.Group, "version": v, "groupPriorityMinimum": int64(1000), "versionPriority": int64(15),
				"caBundle": ca, "service": map[string]any{"namespace": installNamespace, "name": admission.ServiceName},
			},
		}
		raw, err := json.Marshal(service)
		if err != nil {
			cl.t.Fatal(err)
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(raw); err != nil {
			cl.t.Fatal(err)
		}
		cl.create(o)
	}
	hooks := admission.Webhooks(installNamespace, ca)
	cl.create(hooks.Mutating)
	cl.create(hooks.Validating)
	waitFor(cl.t, func() bool {
		code, _ := cl.raw("", http.MethodGet, "/apis/subresources.kubevirt.io/v1/version", "")
		return code == http.StatusOK
	})
}

// raw asks the API server as a user, or as the administrator.
func (cl *cluster) raw(user, method, path, body string) (int, string) {
	cl.t.Helper()
	config := rest.CopyConfig(cl.config)
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user}
	}
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		cl.t.Fatal(err)
	}
	request, err := http.NewRequest(method, strings.TrimSuffix(config.Host, "/")+path, strings.NewReader(body))
	if err != nil {
		cl.t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	data, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(data)
}

func (cl *cluster) sub(user, method, object, subresource, body string) (int, string) {
	cl.t.Helper()
	return cl.raw(user, method, "/apis/subresources.kubevirt.io/v1/namespaces/lab/"+object+"/"+subresource, body)
}

func (cl *cluster) vm(t *testing.T, name string) *v1.VirtualMachine {
	t.Helper()
	vm := &v1.VirtualMachine{}
	if err := cl.c.Get(context.Background(), client.ObjectKey{Namespace: "lab", Name: name}, vm); err != nil {
		t.Fatal(err)
	}
	return vm
}

func newVM(t *testing.T, name, strategy, domain string) *v1.VirtualMachine {
	t.Helper()
	vm := &v1.VirtualMachine{}
	text := fmt.Sprintf(`{metadata: {name: %s, namespace: lab}, spec: {runStrategy: %s, template: {spec: {domain: %s, volumes: [{name: root, containerDisk: {image: x}}]}}}}`,
		name, strategy, domain)
	if err := yaml.UnmarshalStrict([]byte(text), vm); err != nil {
		t.Fatal(err)
	}
	return vm
}

const small = `{memory: {guest: 64Mi}, devices: {}}`
