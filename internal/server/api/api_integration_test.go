//go:build integration

package api

import (
	"context"
	"crypto/tls"
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"virtctl/internal/crds"
	"virtctl/internal/install/components"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/pkitest"
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
		ObjectMeta: metav1.ObjectMeta{Name: admission.ServiceName, Namespace: installNamespace,
			Labels: map[string]string{discoveryv1.LabelServiceName: admission.ServiceName}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{at.IP.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	})
	for _, v := range routes.Versions() {
		service := map[string]any{
			"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": v + "." + routes.Group},
			"spec": map[string]any{"group": routes.Group, "version": v, "groupPriorityMinimum": int64(1000), "versionPriority": int64(15),
				"caBundle": ca, "service": map[string]any{"namespace": installNamespace, "name": admission.ServiceName}},
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

// What unit tests cannot prove: that a real API server finds, trusts and obeys virt-api, and that virt-api's own rights suffice.
func TestBehindARealAPIServer(t *testing.T) {
	cl := startCluster(t)
	cl.grant("editor", "edit")
	cl.grant("mover", "migrate")
	cl.grant("viewer", "view")
	t.Run("defaults and finalizer", cl.defaults)
	t.Run("bad VMs are refused by field", cl.refusals)
	t.Run("start and stop", cl.power)
	t.Run("requests of a VM without a status", cl.manual)
	t.Run("roles", cl.roles)
	t.Run("instances", cl.instances)
	t.Run("migrations", cl.migrations)
	t.Run("discovery and OpenAPI", cl.documents)
	t.Run("without the API server in front", cl.direct)
}

func (cl *cluster) defaults(t *testing.T) {
	cl.create(newVM(t, "plain", "Halted", small))
	vm := cl.vm(t, "plain")
	if len(vm.Finalizers) != 1 || vm.Spec.Template.Spec.Domain.Machine.Type != "q35" || vm.Spec.Template.Spec.Domain.Firmware.UUID == "" {
		t.Errorf("%v %+v", vm.Finalizers, vm.Spec.Template.Spec.Domain)
	}
}

func (cl *cluster) refusals(t *testing.T) {
	for field, domain := range map[string]string{
		"spec.template.spec.domain.devices.disks[0].disk.bus": `{memory: {guest: 64Mi}, devices: {disks: [{name: root, disk: {bus: floppy}}]}}`,
		"spec.template.spec.domain.memory.guest":              `{memory: {guest: "0"}, devices: {}}`,
		"spec.template.spec.domain.machine.type":              `{memory: {guest: 64Mi}, machine: {type: pentium}, devices: {}}`,
	} {
		err := cl.c.Create(context.Background(), newVM(t, "bad", "Halted", domain))
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	body := `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"zero"},"spec":{"runStrategy":"Halted","template":{"spec":{"domain":{"cpu":{"cores":0},"memory":{"guest":"64Mi"},"devices":{}}}}}}`
	if code, answer := cl.raw("", http.MethodPost, "/apis/kubevirt.io/v1/namespaces/lab/virtualmachines", body); code != 422 || !strings.Contains(answer, "spec.template.spec.domain.cpu.cores") {
		t.Errorf("no cores: %d %s", code, answer)
	}
}

func (cl *cluster) power(t *testing.T) {
	cl.create(newVM(t, "power", "Halted", small))
	for _, step := range []struct {
		call, body string
		code       int
		text       string
		strategy   v1.VirtualMachineRunStrategy
	}{
		{"stop", "", 409, "VM is not running", v1.RunStrategyHalted},
		{"start", `{"dryRun":["All"]}`, 202, "", v1.RunStrategyHalted},
		{"start", "", 202, "", v1.RunStrategyAlways},
		{"start", "", 409, "Always does not support manual start requests", v1.RunStrategyAlways},
		{"restart", "", 409, "VM is not running", v1.RunStrategyAlways},
		{"stop", "", 202, "", v1.RunStrategyHalted},
	} {
		code, answer := cl.sub("editor", http.MethodPut, "virtualmachines/power", step.call, step.body)
		if code != step.code || !strings.Contains(answer, step.text) || *cl.vm(t, "power").Spec.RunStrategy != step.strategy {
			t.Errorf("%s %s: %d %s, VM %s", step.call, step.body, code, answer, *cl.vm(t, "power").Spec.RunStrategy)
		}
	}
}

func (cl *cluster) manual(t *testing.T) {
	cl.create(newVM(t, "manual", "Manual", small))
	for i, want := range []int{202, 409} {
		if code, answer := cl.sub("editor", http.MethodPut, "virtualmachines/manual", "start", ""); code != want {
			t.Errorf("start %d: %d %s", i, code, answer)
		}
	}
	if r := cl.vm(t, "manual").Status.StateChangeRequests; len(r) != 1 || r[0].Action != v1.StartRequest {
		t.Errorf("requests %+v", r)
	}
}

// The API server in front reviews the first part of a subresource, virt-api all of it. Both must let an editor through, and
// virt-api must stop who may use only the first part.
func (cl *cluster) roles(t *testing.T) {
	cl.create(newVM(t, "roles", "Halted", small))
	for _, c := range []struct {
		user, method, object, call string
		code                       int
		text                       string
	}{
		{"nobody", http.MethodPut, "virtualmachines/roles", "start", 403, "virtualmachines/start"},
		{"viewer", http.MethodPut, "virtualmachines/roles", "start", 403, "virtualmachines/start"},
		{"viewer", http.MethodGet, "virtualmachines/roles", "expand-spec", 200, `"kind":"VirtualMachine"`},
		{"viewer", http.MethodGet, "virtualmachineinstances/roles", "console", 403, "virtualmachineinstances/console"},
		{"viewer", http.MethodGet, "virtualmachineinstances/roles", "guestosinfo", 404, "not found"},
		{"editor", http.MethodPut, "virtualmachines/roles", "evacuate/cancel", 409, "VMI is not started"},
		{"editor", http.MethodGet, "virtualmachineinstances/roles", "console", 404, "not found"},
		{"editor", http.MethodGet, "virtualmachineinstances/roles", "vnc", 404, "not found"},
		{"editor", http.MethodGet, "virtualmachineinstances/roles", "vnc/screenshot", 403, `cannot get resource \"virtualmachineinstances/vnc/screenshot\"`},
		{"editor", http.MethodPut, "virtualmachines/roles", "migrate", 403, "virtualmachines/migrate"},
		{"mover", http.MethodPut, "virtualmachines/roles", "migrate", 404, "virtualmachineinstance"},
		{"mover", http.MethodPut, "virtualmachines/roles", "start", 403, "virtualmachines/start"},
	} {
		if code, answer := cl.sub(c.user, c.method, c.object, c.call, ""); code != c.code || !strings.Contains(answer, c.text) {
			t.Errorf("%s %s %s: %d %s", c.user, c.method, c.call, code, answer)
		}
	}
	body := `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","spec":{"template":{"spec":{"domain":{"devices":{}}}}}}`
	if code, answer := cl.raw("viewer", http.MethodPut, "/apis/subresources.kubevirt.io/v1/namespaces/lab/expand-vm-spec", body); code != 200 {
		t.Errorf("expand: %d %s", code, answer)
	}
}

func (cl *cluster) instance(t *testing.T, name string, phase v1.VirtualMachineInstancePhase) {
	t.Helper()
	vm := newVM(t, name, "Halted", small)
	vmi := &v1.VirtualMachineInstance{ObjectMeta: vm.ObjectMeta, Spec: vm.Spec.Template.Spec}
	cl.create(vmi)
	controller := rest.CopyConfig(cl.config)
	controller.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + installNamespace + ":kubevirt-controller", Groups: []string{"system:serviceaccounts", "system:authenticated"},
	}
	c, err := client.New(controller, client.Options{Scheme: cl.c.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	patch := fmt.Sprintf(`{"status":{"phase":%q,"nodeName":"n1"}}`, phase)
	if err := c.Patch(context.Background(), vmi, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
	if vmi.Status.Phase != phase {
		t.Fatalf("the controller's status was not taken: %+v", vmi.Status)
	}
}

func (cl *cluster) instances(t *testing.T) {
	cl.instance(t, "runs", v1.Running)
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "runs"}}
	merge := func(text string) error {
		return cl.c.Patch(context.Background(), vmi, client.RawPatch(types.MergePatchType, []byte(text)))
	}
	if err := merge(`{"metadata":{"labels":{"a":"b"}},"status":{"phase":"Failed"}}`); err != nil || vmi.Status.Phase != v1.Running || vmi.Labels["a"] != "b" {
		t.Errorf("an administrator's status counts: %v %+v", err, vmi.Status)
	}
	if err := merge(`{"spec":{"terminationGracePeriodSeconds":1}}`); !apierrors.IsInvalid(err) {
		t.Errorf("spec: %v", err)
	}
	if err := merge(`{"metadata":{"labels":{"kubevirt.io/nodeName":"n2"}}}`); !apierrors.IsInvalid(err) {
		t.Errorf("label: %v", err)
	}
	for _, c := range []struct {
		method, call string
		code         int
		text         string
	}{
		{http.MethodGet, "guestosinfo", 409, "VMI does not have guest agent connected"},
		{http.MethodPut, "unpause", 409, "VMI is not paused"},
		{http.MethodPut, "pause", 500, "virt-handler does not run on node"},
		{http.MethodGet, "console", 400, "websocket"},
		{http.MethodPut, "addvolume", 400, "requires name"},
	} {
		if code, answer := cl.sub("editor", c.method, "virtualmachineinstances/runs", c.call, ""); code != c.code || !strings.Contains(answer, c.text) {
			t.Errorf("%s: %d %s", c.call, code, answer)
		}
	}
	add := `{"name":"data","disk":{"disk":{}},"volumeSource":{"persistentVolumeClaim":{"claimName":"c"}}}`
	if code, answer := cl.sub("editor", http.MethodPut, "virtualmachineinstances/runs", "addvolume", add); code != 202 {
		t.Errorf("addvolume: %d %s", code, answer)
	}
}

func (cl *cluster) migrations(t *testing.T) {
	cl.create(newVM(t, "moves", "Manual", small))
	cl.instance(t, "moves", v1.Running)
	if code, answer := cl.sub("mover", http.MethodPut, "virtualmachines/moves", "migrate", ""); code != 202 {
		t.Fatalf("%d %s", code, answer)
	}
	list := &v1.VirtualMachineInstanceMigrationList{}
	if err := cl.c.List(context.Background(), list, client.MatchingLabels{v1.MigrationSelectorLabel: "moves"}); err != nil || len(list.Items) != 1 || len(list.Items[0].Finalizers) != 1 {
		t.Errorf("%v %+v", err, list.Items)
	}
	if code, answer := cl.sub("mover", http.MethodPut, "virtualmachines/moves", "migrate", ""); code != 400 || !strings.Contains(answer, "in-flight migration detected") {
		t.Errorf("a second one: %d %s", code, answer)
	}
}

func (cl *cluster) documents(t *testing.T) {
	for path, text := range map[string]string{
		"/apis/subresources.kubevirt.io/v1alpha3":                        "virtualmachineinstances/vnc/screenshot",
		"/apis/subresources.kubevirt.io/v1/healthz":                      `"connectivity":"ok"`,
		"/openapi/v3/apis/subresources.kubevirt.io/v1":                   "virtualmachines/{name}/start",
		"/apis/subresources.kubevirt.io/v1alpha3/version":                "gitVersion",
		"/apis/apiregistration.k8s.io/v1/apiservices/v1." + routes.Group: `"type":"Available","status":"True"`,
	} {
		// The API server gathers these in the background.
		answer := ""
		ok := func() bool {
			_, answer = cl.raw("", http.MethodGet, path, "")
			return strings.Contains(strings.ReplaceAll(answer, " ", ""), strings.ReplaceAll(text, " ", "")) ||
				(strings.Contains(text, "Available") && strings.Contains(answer, `"reason":"Passed"`))
		}
		waitFor(t, ok)
	}
}

// Whoever reaches virt-api without the API server has no identity there, whatever headers he sends.
func (cl *cluster) direct(t *testing.T) {
	ask := func(certificate *tls.Certificate) int {
		config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the client is under test
		if certificate != nil {
			config.Certificates = []tls.Certificate{*certificate}
		}
		request, err := http.NewRequest(http.MethodPut, "https://"+cl.endpoint+"/apis/subresources.kubevirt.io/v1/namespaces/lab/virtualmachines/plain/start", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Remote-User", "system:admin")
		request.Header.Set("X-Remote-Group", "system:masters")
		response, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	other := cl.proxyCA.Pair(t, "somebody-else")
	real := cl.proxyCA.Pair(t, "front-proxy-client")
	administrator, err := tls.X509KeyPair(cl.config.CertData, cl.config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c, d := ask(nil), ask(&other), ask(&administrator), ask(&real); a != 401 || b != 401 || c != 401 || d != 202 {
		t.Errorf("nobody %d, another certificate of the same authority %d, an administrator's %d, the API server's %d", a, b, c, d)
	}
}
