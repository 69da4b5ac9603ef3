package review

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/expand"
)

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}

const plainVM = `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"vm","namespace":"default"},
	"spec":{"runStrategy":"Halted","template":{"spec":{"domain":{"memory":{"guest":"64Mi"},"devices":{}}}}}}`

func merge(t testing.TB, base, change string) []byte {
	t.Helper()
	out, err := jsonpatch.MergePatch([]byte(base), []byte(change))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The bad input of a newcomer's first day: each is refused at once, by the name of the field.
func TestBadInputIsRefusedByField(t *testing.T) {
	disks := func(disks, volumes string) string {
		return `{"spec":{"template":{"spec":{"domain":{"devices":{"disks":[` + disks + `]}},"volumes":[` + volumes + `]}}}}`
	}
	const image = `{"name":"a","containerDisk":{"image":"x"}}`
	const at = "spec.template.spec."
	for _, tc := range []struct{ name, change, field string }{
		{"bad disk bus", disks(`{"name":"a","disk":{"bus":"floppy"}}`, image), at + "domain.devices.disks[0].disk.bus"},
		{
			"two boot orders", disks(`{"name":"a","bootOrder":1,"disk":{}},{"name":"b","bootOrder":1,"disk":{}}`, image+`,{"name":"b","emptyDisk":{"capacity":"1Gi"}}`),
			at + "domain.devices.disks[1].bootOrder",
		},
		{"missing volume", disks(`{"name":"b","disk":{}}`, image), at + "domain.devices.disks[0].name"},
		{"unknown machine type", `{"spec":{"template":{"spec":{"domain":{"machine":{"type":"pc-i440fx"}}}}}}`, at + "domain.machine.type"},
		{"memory 0", `{"spec":{"template":{"spec":{"domain":{"memory":{"guest":"0"}}}}}}`, at + "domain.memory.guest"},
		{"CPU 0", `{"spec":{"template":{"spec":{"domain":{"cpu":{"cores":0}}}}}}`, at + "domain.cpu.cores"},
		{"name too long", `{"metadata":{"name":"` + strings.Repeat("n", 253) + `"}}`, "metadata.name"},
		{"network without interface", `{"spec":{"template":{"spec":{"networks":[{"name":"default","pod":{}}]}}}}`, at + "networks[0].name"},
		{
			"interface without network", `{"spec":{"template":{"spec":{"domain":{"devices":{"interfaces":[{"name":"default","masquerade":{}}]}}}}}}`,
			at + "domain.devices.interfaces[0].name",
		},
		{"misspelt field", `{"spec":{"template":{"spec":{"domain":{"memorry":{"guest":"1Gi"}}}}}}`, at + "domain.memorry"},
		{"field in wrong case", `{"spec":{"RunStrategy":"Always"}}`, "spec.RunStrategy"},
		{"text for a number", `{"spec":{"template":{"spec":{"domain":{"cpu":{"cores":"two"}}}}}}`, at + "domain.cpu.cores"},
		{"negative number", `{"spec":{"template":{"spec":{"domain":{"cpu":{"cores":-1}}}}}}`, at + "domain.cpu.cores"},
		{"no template", `{"spec":{"template":null}}`, "spec.template"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, answer := admit(t, testServer(t), admission.MutateVM, admission.ValidateVM, merge(t, plainVM, tc.change), "alice")
			if answer.Allowed {
				t.Fatal("accepted")
			}
			r := answer.Result
			if r.Code != http.StatusUnprocessableEntity || r.Reason != metav1.StatusReasonInvalid || r.Details == nil {
				t.Fatalf("answer %+v", r)
			}
			named := slices.ContainsFunc(r.Details.Causes, func(c metav1.StatusCause) bool { return c.Field == tc.field })
			if !named || !strings.Contains(r.Message, tc.field) {
				t.Errorf("%q does not name %s: %+v", r.Message, tc.field, r.Details.Causes)
			}
		})
	}
}

// A VM may wait for its memory (contract), which a preset may bring; an instance may not.
func TestMissingMemory(t *testing.T) {
	raw := merge(t, plainVM, `{"spec":{"template":{"spec":{"domain":{"memory":null}}}}}`)
	_, answer := admit(t, testServer(t), admission.MutateVM, admission.ValidateVM, raw, "alice")
	if !answer.Allowed || len(answer.Warnings) != 1 || !strings.HasPrefix(answer.Warnings[0], "spec.template.spec.domain.memory.guest is missing") {
		t.Errorf("the VM: %+v", answer)
	}
	vmi := []byte(`{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"web","namespace":"ns"},"spec":{"domain":{"devices":{}}}}`)
	_, answer = admit(t, testServer(t), admission.MutateVMI, admission.ValidateVMICreate, vmi, "alice")
	if answer.Allowed || !strings.Contains(answer.Result.Message, "spec.domain.memory.guest") {
		t.Errorf("the instance: %+v", answer)
	}
}

func TestLongRefusalsAreCut(t *testing.T) {
	var causes []metav1.StatusCause
	for i := range 12 {
		causes = append(causes, metav1.StatusCause{Message: fmt.Sprint("m", i)})
	}
	r := denied(causes).Result
	if !strings.HasSuffix(r.Message, "m9, and 2 more validation errors") || len(r.Details.Causes) != 12 {
		t.Errorf("%q with %d causes", r.Message, len(r.Details.Causes))
	}
}

func TestVMDefaults(t *testing.T) {
	raw, answer := admit(t, testServer(t), admission.MutateVM, admission.ValidateVM, []byte(plainVM), "alice")
	if !answer.Allowed {
		t.Fatal(answer.Result.Message)
	}
	vm := &v1.VirtualMachine{}
	if err := json.Unmarshal(raw, vm); err != nil {
		t.Fatal(err)
	}
	spec := vm.Spec.Template.Spec
	switch {
	case !slices.Contains(vm.Finalizers, v1.VirtualMachineControllerFinalizer):
		t.Error("no finalizer: the controller has to write it")
	case spec.Domain.Firmware.UUID == "" || spec.Domain.Firmware.Serial == "":
		t.Error("no identity: the guest's changes at every start")
	case spec.Domain.Machine.Type != "q35" || spec.Architecture != "amd64":
		t.Errorf("machine %+v of %s", spec.Domain.Machine, spec.Architecture)
	case vm.Spec.Template.ObjectMeta.Annotations[v1.PciTopologyVersionAnnotation] != "v3":
		t.Error("no PCI topology version")
	case len(spec.Networks) != 0 || spec.Domain.CPU != nil:
		t.Error("what may follow the cluster's configuration was fixed in the VM")
	}
}

func TestRunningIsWarnedAbout(t *testing.T) {
	raw := merge(t, plainVM, `{"spec":{"runStrategy":null,"running":true}}`)
	_, answer := admit(t, testServer(t), admission.MutateVM, admission.ValidateVM, raw, "alice")
	if !answer.Allowed || len(answer.Warnings) != 1 || !strings.Contains(answer.Warnings[0], "runStrategy") {
		t.Errorf("%+v", answer)
	}
}

// Finalizers must come off whatever has become of the rules.
func TestVMsThatGoAreLetGo(t *testing.T) {
	raw := merge(t, plainVM, `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"template":{"spec":{"domain":{"machine":{"type":"x"}}}}}}`)
	request := createRequest(raw, "alice")
	request.Operation, request.OldObject = admissionv1.Update, runtime.RawExtension{Raw: []byte(plainVM)}
	if answer := ask(t, testServer(t), admission.ValidateVM, request); !answer.Allowed {
		t.Error(answer.Result.Message)
	}
}

// gone is an Expander whose instance types have been deleted.
type gone struct{ expand.Literal }

func (gone) Applies(*v1.VirtualMachine) bool { return true }

// A VM whose instance type is gone cannot start anew, but it can be stopped.
func TestVMsOfMissingTypesCanBeStopped(t *testing.T) {
	s := testServer(t)
	s.Expander = gone{}
	before := string(merge(t, plainVM, `{"spec":{"runStrategy":"Always","instancetype":{"name":"x","kind":"virtualmachineinstancetype"},"template":{"spec":{"domain":{"memory":null}}}}}`))
	if answer := ask(t, s, admission.ValidateVM, update(t, before, `{"spec":{"runStrategy":"Halted"}}`, "alice")); !answer.Allowed {
		t.Errorf("stop: %s", answer.Result.Message)
	}
	if answer := ask(t, s, admission.ValidateVM, update(t, before, `{"spec":{"template":{"spec":{"hostname":"a"}}}}`, "alice")); answer.Allowed {
		t.Error("a change was accepted")
	}
}

// later is an Expander of a cluster in which what VMs refer to does not exist yet.
type later struct{ gone }

func (later) Expand(context.Context, *v1.VirtualMachine) (*v1.VirtualMachine, error) {
	return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusUnprocessableEntity, Details: &metav1.StatusDetails{
		Causes: []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueNotFound, Field: "spec.instancetype", Message: "not found"}},
	}}}
}

// A VM and its instance type may be applied in any order; what is wrong with the VM itself is refused all the same.
func TestVMsMayComeBeforeTheirTypes(t *testing.T) {
	s := testServer(t)
	s.Expander = later{}
	raw := merge(t, plainVM, `{"spec":{"instancetype":{"name":"x","kind":"virtualmachineinstancetype"},"template":{"spec":{"domain":{"memory":null}}}}}`)
	if answer := ask(t, s, admission.ValidateVM, createRequest(raw, "alice")); !answer.Allowed {
		t.Error(answer.Result.Message)
	}
	wrong := merge(t, string(raw), `{"spec":{"template":{"spec":{"domain":{"devices":{"disks":[{"name":"none"}]}}}}}}`)
	if answer := ask(t, s, admission.ValidateVM, createRequest(wrong, "alice")); answer.Allowed {
		t.Error("a disk without a volume was accepted")
	}
}

func TestALiveUpdateAtATime(t *testing.T) {
	vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: "vm", Namespace: "default"}}
	vmi.Status.Conditions = []v1.VirtualMachineInstanceCondition{{Type: v1.VirtualMachineInstanceMemoryChange, Status: corev1.ConditionTrue}}
	request := createRequest(merge(t, plainVM, `{"spec":{"template":{"spec":{"domain":{"memory":{"guest":"128Mi"}}}}}}`), "alice")
	request.Operation, request.OldObject = admissionv1.Update, runtime.RawExtension{Raw: []byte(plainVM)}
	if answer := ask(t, testServer(t, vmi), admission.ValidateVM, request); answer.Allowed || answer.Result.Details.Causes[0].Field != "spec.template.spec.domain.memory.guest" {
		t.Errorf("%+v", answer)
	}
	if answer := ask(t, testServer(t), admission.ValidateVM, request); !answer.Allowed {
		t.Errorf("without an instance: %s", answer.Result.Message)
	}
}

const plainVMI = `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"vm","namespace":"default","uid":"u1"},
	"spec":{"domain":{"memory":{"guest":"64Mi"},"devices":{}}},"status":{"phase":"Running","nodeName":"n1"}}`

func update(t testing.TB, before, change, username string, extra ...string) *admissionv1.AdmissionRequest {
	t.Helper()
	request := createRequest(merge(t, before, change), username)
	request.Operation, request.OldObject = admissionv1.Update, runtime.RawExtension{Raw: []byte(before)}
	if len(extra) > 0 {
		request.UserInfo.Extra = map[string]authenticationv1.ExtraValue{nodeNameClaim: extra}
	}
	return request
}

// VMIs have no status subresource: without this, whoever may label his VMI may also tell the platform that it runs elsewhere.
func TestUsersHaveNoSayInAStatus(t *testing.T) {
	s := testServer(t)
	const change = `{"metadata":{"labels":{"a":"b"}},"status":{"nodeName":"n2"}}`
	answer := ask(t, s, admission.MutateVMI, update(t, plainVMI, change, "alice"))
	if !strings.Contains(string(answer.Patch), `"nodeName":"n1"`) {
		t.Errorf("patch %s", answer.Patch)
	}
	if answer := ask(t, s, admission.MutateVMI, update(t, plainVMI, change, controllerUser)); len(answer.Patch) > 0 {
		t.Errorf("the controller's status was changed: %s", answer.Patch)
	}
	impostor := "system:serviceaccount:users:kubevirt-controller"
	if answer := ask(t, s, admission.MutateVMI, update(t, plainVMI, change, impostor)); len(answer.Patch) == 0 {
		t.Error("an account of the same name in another namespace passes for the controller")
	}
	raw, _ := admit(t, s, admission.MutateVMI, admission.ValidateVMICreate, []byte(plainVMI), "alice")
	vmi := &v1.VirtualMachineInstance{}
	if err := json.Unmarshal(raw, vmi); err != nil || vmi.Status.NodeName != "" || vmi.Status.Phase != v1.Pending {
		t.Errorf("created with %+v", vmi.Status)
	}
}

func TestVMISpecsStay(t *testing.T) {
	s := testServer(t)
	const change = `{"spec":{"terminationGracePeriodSeconds":1}}`
	if answer := ask(t, s, admission.ValidateVMIUpdate, update(t, plainVMI, change, "alice")); answer.Allowed || answer.Result.Code != 422 {
		t.Errorf("a user: %+v", answer)
	}
	if answer := ask(t, s, admission.ValidateVMIUpdate, update(t, plainVMI, change, controllerUser)); !answer.Allowed {
		t.Errorf("the controller: %+v", answer.Result)
	}
}

// CVE-2023-26484, CVE-2025-64436: one node that was taken over must not take the others' VMs.
func TestAgentsStayOnTheirNodes(t *testing.T) {
	const agent = "system:serviceaccount:kubevirt:kubevirt-handler"
	const pending = `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstance","metadata":{"name":"vm","namespace":"default","uid":"u1"},
		"spec":{"domain":{"memory":{"guest":"64Mi"},"devices":{}}},"status":{"phase":"Scheduling"}}`
	vmi := &v1.VirtualMachineInstance{}
	if err := json.Unmarshal([]byte(pending), vmi); err != nil {
		t.Fatal(err)
	}
	launcher := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "virt-launcher-vm-x", Labels: map[string]string{v1.CreatedByLabel: "u1"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceGroupVersionKind)},
	}}
	launcher.Spec.NodeName = "n1"
	// CVE-2025-64435: a pod that only looks like the VMI's.
	impostor := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "impostor", Labels: map[string]string{v1.CreatedByLabel: "u1"},
	}}
	impostor.Spec.NodeName = "n3"
	s := testServer(t, launcher, impostor)
	migrating := string(merge(t, plainVMI, `{"status":{"migrationState":{"targetNode":"n2"}}}`))
	for _, tc := range []struct {
		name, before, change string
		node                 []string
		allowed              bool
	}{
		{"its own", plainVMI, `{"status":{"reason":"x"}}`, []string{"n1"}, true},
		{"another's", plainVMI, `{"status":{"reason":"x"}}`, []string{"n2"}, false},
		{"one that comes", migrating, `{"status":{"nodeName":"n2"}}`, []string{"n2"}, true},
		{"one that comes, to a third", migrating, `{"status":{"nodeName":"n3"}}`, []string{"n2"}, false},
		{"one that starts here", pending, `{"status":{"phase":"Scheduled","nodeName":"n1"}}`, []string{"n1"}, true},
		{"one that starts elsewhere", pending, `{"status":{"phase":"Failed","nodeName":"n2"}}`, []string{"n2"}, false},
		{"one with an impostor here", pending, `{"status":{"phase":"Failed","nodeName":"n3"}}`, []string{"n3"}, false},
		{"a token of no node", plainVMI, `{"status":{"reason":"x"}}`, nil, false},
	} {
		answer := ask(t, s, admission.ValidateVMIUpdate, update(t, tc.before, tc.change, agent, tc.node...))
		if answer.Allowed != tc.allowed {
			t.Errorf("%s: allowed %v: %+v", tc.name, answer.Allowed, answer.Result)
		}
	}
	off := &v1.KubeVirt{}
	off.Spec.Configuration.DeveloperConfiguration = &v1.DeveloperConfiguration{DisabledFeatureGates: []string{clusterconfig.GateNodeRestriction}}
	s.Config = clusterconfig.Fixed(off)
	if answer := ask(t, s, admission.ValidateVMIUpdate, update(t, plainVMI, `{"status":{"reason":"x"}}`, agent, "n2")); !answer.Allowed {
		t.Errorf("with the gate off: %+v", answer.Result)
	}
}

func migration(vmiName, spec string) []byte {
	return []byte(`{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachineInstanceMigration","metadata":{"generateName":"m-","namespace":"default"},"spec":{"vmiName":"` +
		vmiName + `"` + spec + `}}`)
}

func TestMigrations(t *testing.T) {
	vmi := func(name string, phase v1.VirtualMachineInstancePhase, conditions ...v1.VirtualMachineInstanceCondition) client.Object {
		return &v1.VirtualMachineInstance{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
			Status:     v1.VirtualMachineInstanceStatus{Phase: phase, Conditions: conditions},
		}
	}
	move := func(name, vmiName string, phase v1.VirtualMachineInstanceMigrationPhase) client.Object {
		return &v1.VirtualMachineInstanceMigration{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: "m1", Labels: map[string]string{v1.MigrationSelectorLabel: vmiName}},
			Spec:       v1.VirtualMachineInstanceMigrationSpec{VMIName: vmiName}, Status: v1.VirtualMachineInstanceMigrationStatus{Phase: phase},
		}
	}
	s := testServer(t, vmi("runs", v1.Running), vmi("moving", v1.Running), vmi("moved", v1.Running), vmi("ended", v1.Succeeded),
		vmi("fixed", v1.Running, v1.VirtualMachineInstanceCondition{
			Type: v1.VirtualMachineInstanceIsMigratable, Status: corev1.ConditionFalse,
			Reason: "DisksNotLiveMigratable", Message: "not shared",
		}),
		move("a", "moving", v1.MigrationRunning), move("b", "moved", v1.MigrationSucceeded))
	for _, tc := range []struct{ name, spec, user, text string }{
		{"runs", "", "alice", ""},
		{"moved", "", "alice", ""},
		{"moving", "", "alice", "in-flight migration detected. Active migration job (m1) is currently already in progress for VMI moving."},
		{"ended", "", "alice", "Cannot migrate VMI in finalized state."}, //nolint:misspell // contract
		{"fixed", "", "alice", "Cannot migrate VMI, Reason: DisksNotLiveMigratable, Message: not shared"},
		{"gone", "", "alice", "does not exist"},
		{"", "", "alice", "spec.vmiName"},
		{"runs", `,"priority":"system-critical"`, "alice", "spec.priority"},
		{"runs", `,"priority":"system-critical"`, controllerUser, ""},
	} {
		raw, answer := admit(t, s, admission.MutateMigration, admission.ValidateMigration, migration(tc.name, tc.spec), tc.user)
		if answer.Allowed != (tc.text == "") || (!answer.Allowed && !strings.Contains(answer.Result.Message, tc.text)) {
			t.Errorf("%s: %+v", tc.name, answer.Result)
		}
		m := &v1.VirtualMachineInstanceMigration{}
		if err := json.Unmarshal(raw, m); err != nil || m.Labels[v1.MigrationSelectorLabel] != tc.name ||
			!slices.Contains(m.Finalizers, v1.VirtualMachineInstanceMigrationFinalizer) {
			t.Errorf("%s: %v %+v", tc.name, err, m.ObjectMeta)
		}
	}
}

func TestMigrationUpdates(t *testing.T) {
	const running = `{"metadata":{"labels":{"kubevirt.io/vmi-name":"a"}},"spec":{"vmiName":"a"},"status":{"phase":"Running"}}`
	for _, tc := range []struct {
		change  string
		allowed bool
	}{
		{`{"status":{"phase":"Succeeded"}}`, true},
		{`{"spec":{"vmiName":"b"}}`, false},
		{`{"metadata":{"labels":{"kubevirt.io/vmi-name":null}}}`, false},
		{`{"metadata":{"labels":{"other":"x"}}}`, true},
	} {
		if answer := ask(t, testServer(t), admission.ValidateMigUpdate, update(t, running, tc.change, "alice")); answer.Allowed != tc.allowed {
			t.Errorf("%s: %+v", tc.change, answer.Result)
		}
	}
}

func TestStatusIsJudged(t *testing.T) {
	request := createRequest(merge(t, plainVM, `{"status":{"volumeRequests":[{}]}}`), controllerUser)
	request.Resource.Resource = "virtualmachines"
	if answer := ask(t, testServer(t), admission.ValidateStatus, request); answer.Allowed {
		t.Error("accepted")
	}
	request = createRequest(merge(t, plainVM, `{"status":{"printableStatus":"Running"}}`), controllerUser)
	request.Resource.Resource = "virtualmachines"
	if answer := ask(t, testServer(t), admission.ValidateStatus, request); !answer.Allowed {
		t.Error(answer.Result.Message)
	}
}

func TestNotAReview(t *testing.T) {
	for _, body := range []string{"", "{}", "[]", `{"request":null}`} {
		w := httptest.NewRecorder()
		testServer(t).Handlers()[admission.ValidateVM].ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d", body, w.Code)
		}
	}
}
