//go:build integration

package together

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/ingress"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/serving"
	"virtctl/internal/install"
	"virtctl/internal/server/cdi/apiserver"
	"virtctl/internal/server/cdi/operator"
	"virtctl/internal/server/cdi/uploadproxy"
	"virtctl/test/controlplane"
)

const namespace = "kubevirt"

// cluster is a real API server with CDI's operator at work, and CDI's servers behind it with no more rights than an installation
// gives. Nothing runs pods: a Deployment is ready when the test says so.
type cluster struct {
	t      *testing.T
	plane  *controlplane.ControlPlane
	config *rest.Config
	c      client.Client
	// address is one of this machine's that Services may point to.
	address string
	// proxy is where cdi-uploadproxy listens, uploads the port upload servers listen on.
	proxy   string
	uploads net.Listener
	dirs    string
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T) *cluster {
	t.Helper()
	plane := controlplane.Start(t, nil)
	cl := &cluster{t: t, plane: plane, config: plane.Config, address: controlplane.OwnAddress(t), dirs: t.TempDir()}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, cdiv1.AddToScheme, apiextensionsv1.AddToScheme} {
		must(t, add(scheme))
	}
	var err error
	cl.c, err = client.New(cl.config, client.Options{Scheme: scheme})
	must(t, err)
	return cl
}

func (cl *cluster) path(name string) string { return filepath.Join(cl.dirs, name) }

// write replaces a file by a new one, as the kubelet does.
func (cl *cluster) write(name string, data []byte) {
	cl.t.Helper()
	path := cl.path(name)
	must(cl.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(cl.t, os.WriteFile(path+".new", data, 0o600))
	must(cl.t, os.Rename(path+".new", path))
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s did not come", what)
		case <-tick.C:
		}
	}
}

func (cl *cluster) create(o client.Object) {
	cl.t.Helper()
	must(cl.t, cl.c.Create(context.Background(), o))
}

func (cl *cluster) installer() *install.Installer {
	cl.t.Helper()
	installer, err := install.New(cl.config, install.Options{
		Namespace: namespace, Registry: "registry.example", Tag: "v1", PullPolicy: corev1.PullIfNotPresent, Emulation: install.EmulationOn, Replicas: 1,
	})
	must(cl.t, err)
	return installer
}

// install applies what `virtctl install` does, and runs the operator with its account's rights.
func (cl *cluster) install() {
	t := cl.t
	t.Helper()
	_, err := cl.installer().Install(context.Background())
	must(t, err)
	for _, ns := range []string{"lab", "other"} {
		cl.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	}
	mgr, err := operator.New(cl.account(names.AccountOperator), operator.Options{
		Namespace: namespace, Images: operator.Images{Registry: "registry.example", Tag: "v1", PullPolicy: corev1.PullIfNotPresent},
	})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() { stop(); must(t, <-ended) })
}

func (cl *cluster) account(name string) *rest.Config { return cl.plane.Account(namespace, name) }

// roll says that every pod of a Deployment is ready.
func (cl *cluster) roll(name string) {
	cl.t.Helper()
	waitFor(cl.t, "Deployment "+name, func() bool {
		d := &appsv1.Deployment{}
		if cl.c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, d) != nil {
			return false
		}
		n := *d.Spec.Replicas
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
		return cl.c.Status().Update(context.Background(), d) == nil
	})
}

func (cl *cluster) rollAll() {
	cl.t.Helper()
	for _, name := range []string{names.DeploymentController, names.DeploymentAPIServer, names.DeploymentUploadProxy} {
		cl.roll(name)
	}
}

func (cl *cluster) cdi() *cdiv1.CDI {
	cl.t.Helper()
	cdi := &cdiv1.CDI{}
	must(cl.t, cl.c.Get(context.Background(), client.ObjectKey{Name: names.CDI}, cdi))
	return cdi
}

// mounts brings what the pods would have mounted into files.
func (cl *cluster) mounts() {
	t := cl.t
	t.Helper()
	for _, name := range []string{names.SecretAPICert, names.SecretProxyCert, names.SecretUploadClientCert, names.SecretSigningKey} {
		secret := &corev1.Secret{}
		waitFor(t, "Secret "+name, func() bool {
			return cl.c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, secret) == nil
		})
		for key, value := range secret.Data {
			cl.write(name+"/"+key, value)
		}
	}
	bundle := &corev1.ConfigMap{}
	must(t, cl.c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: names.BundleUpload}, bundle))
	cl.write("upload-ca", []byte(bundle.Data[names.BundleKey]))
}

func (cl *cluster) listen() net.Listener {
	cl.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(cl.address, "0"))
	must(cl.t, err)
	return l
}

// serve runs cdi-apiserver and cdi-uploadproxy with their accounts' rights.
func (cl *cluster) serve() {
	t := cl.t
	t.Helper()
	cl.mounts()
	cl.uploads = cl.listen()
	port := cl.uploads.Addr().(*net.TCPAddr).Port
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	api, err := apiserver.New(cl.account(names.AccountAPIServer), ingress.Options{
		ServingDir: cl.path(names.SecretAPICert), ClientDir: cl.path(names.SecretUploadClientCert), Authorities: cl.path("upload-ca"),
		SigningKey: cl.path(names.SecretSigningKey + "/" + names.SigningKeyPrivate), Drain: time.Second, UploadPort: port,
	}, log)
	must(t, err)
	at := cl.run(api)
	cl.endpoint(names.ServiceAPI, at)
	proxy, err := uploadproxy.New(cl.account(names.AccountUploadProxy), ingress.Options{
		ServingDir: cl.path(names.SecretProxyCert), ClientDir: cl.path(names.SecretUploadClientCert), Authorities: cl.path("upload-ca"),
		SigningKey: cl.path(names.SecretSigningKey + "/" + names.SigningKeyPublic), Drain: time.Second, UploadPort: port,
	}, log)
	must(t, err)
	cl.proxy = "https://" + cl.run(proxy).String()
}

func (cl *cluster) run(s *serving.Server) *net.TCPAddr {
	t := cl.t
	t.Helper()
	listener := cl.listen()
	s.Listen = func(context.Context) (net.Listener, error) { return listener, nil }
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() { stop(); must(t, <-ended) })
	waitFor(t, s.Name, func() bool { return s.Ready() == nil })
	return listener.Addr().(*net.TCPAddr)
}

// endpoint points a Service of the installation to a server of this test.
func (cl *cluster) endpoint(service string, at *net.TCPAddr) {
	port, name, protocol, yes := int32(at.Port), "https", corev1.ProtocolTCP, true
	cl.create(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service, Namespace: namespace, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{at.IP.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	})
}

// grant binds roles to a user in a namespace.
func (cl *cluster) grant(user, in string, roles ...string) {
	cl.t.Helper()
	for _, role := range roles {
		cl.create(&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{GenerateName: user + "-", Namespace: in},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
		})
	}
}

func (cl *cluster) user(name string) *rest.Config {
	config := rest.CopyConfig(cl.config)
	if name != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: []string{"system:authenticated"}}
	}
	return config
}

// ask sends a request to the API server as a user, or as the administrator.
func (cl *cluster) ask(user, method, path string, body io.Reader, header http.Header) (*http.Response, string) {
	cl.t.Helper()
	config := cl.user(user)
	c, err := rest.HTTPClientFor(config)
	must(cl.t, err)
	return cl.do(c, method, strings.TrimSuffix(config.Host, "/")+path, body, header)
}

// outside sends a request to cdi-uploadproxy.
func (cl *cluster) outside(method, path string, body io.Reader, header http.Header) (*http.Response, string) {
	cl.t.Helper()
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // reached by its address
	}}
	return cl.do(c, method, cl.proxy+path, body, header)
}

func (cl *cluster) do(c *http.Client, method, url string, body io.Reader, header http.Header) (*http.Response, string) {
	cl.t.Helper()
	request, err := http.NewRequest(method, url, body)
	must(cl.t, err)
	for k, v := range header {
		request.Header[k] = v
	}
	response, err := c.Do(request)
	if err != nil {
		return &http.Response{Header: http.Header{}}, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return response, fmt.Sprintf("%s (%v)", data, err)
	}
	return response, string(data)
}
