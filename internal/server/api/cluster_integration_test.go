//go:build integration

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"virtctl/internal/certificates/pkitest"
	"virtctl/internal/crds"
	"virtctl/internal/install/components"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/routes"
	"virtctl/test/controlplane"
)

const installNamespace = "kubevirt"

// cluster is a real API server with virt-api behind it: aggregated API, webhooks, and no more rights than an installation gives.
type cluster struct {
	t        *testing.T
	plane    *controlplane.ControlPlane
	config   *rest.Config
	c        client.Client
	endpoint string
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	plane := controlplane.Start(t, controlplane.Definitions(t, crds.Platform, crds.KubeVirt))
	cl := &cluster{t: t, plane: plane, config: plane.Config}
	var err error
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

// serve runs virt-api with its ServiceAccount's rights, and tells the API server about it.
func (cl *cluster) serve() {
	t := cl.t
	t.Helper()
	ca, dir := pkitest.New(t, "kubevirt-ca"), t.TempDir()
	ca.Dir(t, dir, "virt-api."+installNamespace+".svc")
	pkitest.Write(t, filepath.Join(dir, "ca-bundle"), ca.PEM)
	options := Options{Namespace: installNamespace, ServingDir: dir, ClientDir: dir, Authorities: filepath.Join(dir, "ca-bundle"), Drain: time.Second}
	a, err := newApp(cl.plane.Account(installNamespace, "kubevirt-apiserver"), options, quiet())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(controlplane.OwnAddress(t), "0"))
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
