//go:build integration

package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/api/routes"
)

// What unit tests cannot prove: that a real API server finds, trusts and obeys virt-api, and that virt-api's own rights suffice.
func TestBehindARealAPIServer(t *testing.T) {
	cl := startCluster(t)
	cl.grant("editor", "edit")
	cl.grant("mover", "migrate")
	cl.grant("viewer", "view")
	t.Run("defaults and finalizer", cl.defaults)
	t.Run("bad VMs are refused by field", cl.refusals)
	t.Run("presets", cl.presets)
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

// A preset is there for the VMI that is made right after it.
func (cl *cluster) presets(t *testing.T) {
	const base = "/apis/kubevirt.io/v1/namespaces/lab/"
	preset := `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstancePreset","metadata":{"name":"two"},
		"spec":{"selector":{"matchLabels":{"flavor":"two"}},"domain":{"cpu":{"cores":2},"devices":{}}}}`
	if code, answer := cl.raw("", http.MethodPost, base+"virtualmachineinstancepresets", preset); code != 201 {
		t.Fatalf("%d %s", code, answer)
	}
	instance := `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"preset","labels":{"flavor":"two"}},
		"spec":{"domain":{"memory":{"guest":"64Mi"},"devices":{}}}}`
	code, answer := cl.raw("", http.MethodPost, base+"virtualmachineinstances?dryRun=All", instance)
	if code != 201 || !strings.Contains(answer, `"cores":2`) || !strings.Contains(answer, `"virtualmachinepreset.kubevirt.io/two":"kubevirt.io/v1"`) {
		t.Errorf("%d %s", code, answer)
	}
	bad := strings.NewReplacer(`"two"},`, `"bad"},`, `"domain":{"cpu":{"cores":2}`, `"domain":{"firmware":{"uuid":"x"}`).Replace(preset)
	if code, answer := cl.raw("", http.MethodPost, base+"virtualmachineinstancepresets", bad); code != 422 || !strings.Contains(answer, "spec.domain.firmware.uuid") {
		t.Errorf("%d %s", code, answer)
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
	other := cl.plane.Front.Pair(t, "somebody-else")
	real := cl.plane.Front.Pair(t, "front-proxy-client")
	administrator, err := tls.X509KeyPair(cl.config.CertData, cl.config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c, d := ask(nil), ask(&other), ask(&administrator), ask(&real); a != 401 || b != 401 || c != 401 || d != 202 {
		t.Errorf("nobody %d, another certificate of the same authority %d, an administrator's %d, the API server's %d", a, b, c, d)
	}
}
