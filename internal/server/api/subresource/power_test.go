package subresource

import (
	"strings"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/api/routes"
)

// seen is what a request did to the VM, in short.
func seen(vm *v1.VirtualMachine) string {
	var out []string
	if vm.Spec.Running != nil {
		out = append(out, map[bool]string{true: "running", false: "not running"}[*vm.Spec.Running])
	}
	if vm.Spec.RunStrategy != nil {
		out = append(out, string(*vm.Spec.RunStrategy))
	}
	for _, r := range vm.Status.StateChangeRequests {
		text := string(r.Action)
		if r.UID != nil {
			text += "(" + string(*r.UID) + ")"
		}
		if r.Data["paused"] == "true" {
			text += " paused"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

type powerCase struct {
	name    string
	objects []string
	body    string
	code    int
	message string
	after   string
}

func runPower(t *testing.T, handler routes.Handler, cases []powerCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := setUp(t, nil, c.objects...)
			a := h.do(t, handler, nil, "", c.body)
			if a.code != c.code || !strings.Contains(a.message, c.message) {
				t.Errorf("%d %q, want %d %q", a.code, a.message, c.code, c.message)
			}
			if a.code < 300 && a.body != "" {
				t.Errorf("body %q", a.body)
			}
			if len(c.objects) == 0 || !strings.Contains(c.objects[0], "kind: VirtualMachine,") {
				return
			}
			if got := seen(h.readVM(t)); got != c.after {
				t.Errorf("VM is %q, want %q", got, c.after)
			}
		})
	}
}

const status = "printableStatus: Stopped"

func TestStart(t *testing.T) {
	runPower(t, routes.Start, []powerCase{
		{"unknown", nil, "", 404, `virtualmachine.kubevirt.io "vm" not found`, ""},
		{"halted", []string{aVM("Halted", status)}, "", 202, "", "Always"},
		{"halted, with options", []string{aVM("Halted", status)}, `{"dryRun":[]}`, 202, "", "Always"},
		{"halted, options in YAML", []string{aVM("Halted", status)}, "paused: false\n", 202, "", "Always"},
		{"not running, in the old way", []string{strings.Replace(aVM("X", status), "runStrategy: X", "running: false", 1)}, "", 202, "", "running"},
		{"paused", []string{aVM("Halted", status)}, `{"paused":true}`, 202, "", "Halted, Start paused"},
		{"paused anyway", []string{strings.Replace(aVM("Halted", status), "{domain", "{startStrategy: Paused, domain", 1)}, `{"paused":true}`, 202, "", "Always"},
		{"dry run", []string{aVM("Halted", status)}, `{"dryRun":["All"]}`, 202, "", "Halted"},
		{"runs", []string{aVM("Halted", status), aVMI("Running", "", "")}, "", 409, "VM is already running", "Halted"},
		{"begins", []string{aVM("Manual", status), aVMI("Scheduling", "", "")}, "", 409, "VM is already running", "Manual"},
		{"manual", []string{aVM("Manual", status)}, "", 202, "", "Manual, Start"},
		{"manual, never seen by the controller", []string{aVM("Manual", "")}, "", 202, "", "Manual, Start"},
		{"manual, ended", []string{aVM("Manual", status), aVMI("Failed", "", "")}, "", 202, "", "Manual, Stop(vmi-uid), Start"},
		{"manual, asked already", []string{aVM("Manual", status+", stateChangeRequests: [{action: Start}]")}, "", 409, requestsUnderway, "Manual, Start"},
		{"rerun", []string{aVM("RerunOnFailure", status)}, "", 202, "", "RerunOnFailure, Start"},
		{"rerun, ended", []string{aVM("RerunOnFailure", status), aVMI("Succeeded", "", "")}, "", 202, "", "RerunOnFailure, Stop(vmi-uid), Start"},
		{"rerun, failed", []string{aVM("RerunOnFailure", status), aVMI("Failed", "", "")}, "", 409, "RerunOnFailure does not support starting VM from failed state", "RerunOnFailure"},
		{"always", []string{aVM("Always", status)}, "", 409, "Always does not support manual start requests", "Always"},
		{"once", []string{aVM("Once", status)}, "", 409, "Once does not support manual start requests", "Once"},
		{"needs recovery", []string{aVM("Halted", condition("ManualRecoveryRequired"))}, "", 409, "recovery", "Halted"},
		{"nonsense", []string{aVM("Halted", status)}, "{", 400, "Can not unmarshal Request body to struct, error:", "Halted"},
		{"wrong type", []string{aVM("Halted", status)}, `{"paused":"maybe"}`, 400, "Can not unmarshal", "Halted"},
	})
}

func TestStop(t *testing.T) {
	vmi := aVMI("Running", "", "")
	runPower(t, routes.Stop, []powerCase{
		{"unknown", nil, "", 404, "not found", ""},
		{"always", []string{aVM("Always", status), vmi}, "", 202, "", "Halted"},
		{"always, without an instance", []string{aVM("Always", status)}, "", 202, "", "Halted"},
		{"running, in the old way", []string{strings.Replace(aVM("X", status), "runStrategy: X", "running: true", 1), vmi}, "", 202, "", "not running"},
		{"once", []string{aVM("Once", status), vmi}, "", 202, "", "Halted"},
		{"manual", []string{aVM("Manual", status), vmi}, "", 202, "", "Manual, Stop(vmi-uid)"},
		{"manual, before the start is done", []string{aVM("Manual", status+", stateChangeRequests: [{action: Start}]"), vmi}, "", 202, "", "Manual, Stop(vmi-uid)"},
		{"rerun", []string{aVM("RerunOnFailure", status), vmi}, "", 202, "", "RerunOnFailure, Stop(vmi-uid)"},
		{"manual, stopped", []string{aVM("Manual", status)}, "", 409, "VM is not running", "Manual"},
		{"manual, ended", []string{aVM("Manual", status), aVMI("Succeeded", "", "")}, "", 409, "VM is not running", "Manual"},
		{"halted", []string{aVM("Halted", status)}, "", 409, "VM is not running", "Halted"},
		{"halted, still going", []string{aVM("Halted", status), vmi}, "", 409, "Halted only supports manual stop requests with a shorter graceperiod", "Halted"},
		{"halted, harder", []string{aVM("Halted", status), vmi}, `{"gracePeriod":0}`, 202, "", "Halted, Stop(vmi-uid)"},
		{"halted, softer", []string{aVM("Halted", status), vmi}, `{"gracePeriod":60}`, 409, "shorter graceperiod", "Halted"},
		{"negative", []string{aVM("Always", status), vmi}, `{"gracePeriod":-1}`, 400, "gracePeriod", "Always"},
		{"dry run", []string{aVM("Always", status), vmi}, `{"dryRun":["All"],"gracePeriod":0}`, 202, "", "Always"},
	})
}

// A forced stop shortens the guest's time, and a refused one must not.
func TestStopGracePeriod(t *testing.T) {
	for _, c := range []struct {
		strategy, body string
		want           int64
	}{
		{"Always", `{"gracePeriod":3}`, 3}, {"Always", ``, 30}, {"Halted", `{"gracePeriod":60}`, 30}, {"Always", `{"gracePeriod":3,"dryRun":["All"]}`, 30},
	} {
		h := setUp(t, nil, aVM(c.strategy, status), aVMI("Running", "", ""))
		h.do(t, routes.Stop, nil, "", c.body)
		if got := *h.readVMI(t).Spec.TerminationGracePeriodSeconds; got != c.want {
			t.Errorf("%s %s: %d seconds", c.strategy, c.body, got)
		}
	}
}

func TestRestart(t *testing.T) {
	vmi := aVMI("Running", "", "")
	const asked = "Stop(vmi-uid), Start"
	runPower(t, routes.Restart, []powerCase{
		{"unknown", nil, "", 404, "not found", ""},
		{"always", []string{aVM("Always", status), vmi}, "", 202, "", "Always, " + asked},
		{"manual", []string{aVM("Manual", status), vmi}, "", 202, "", "Manual, " + asked},
		{"forced", []string{aVM("Always", status), vmi}, `{"gracePeriodSeconds":0}`, 202, "", "Always, " + asked},
		{"halted", []string{aVM("Halted", status), vmi}, "", 409, "RunStategy Halted does not support manual restart requests", "Halted"},
		{"once", []string{aVM("Once", status), vmi}, "", 409, "RunStategy Once does not support manual restart requests", "Once"},
		{"stopped", []string{aVM("Always", status)}, "", 409, "VM is not running: Halted", "Always"},
		{"asked already", []string{aVM("Always", status+", stateChangeRequests: [{action: Start}]"), vmi}, "", 409, requestsUnderway, "Always, Start"},
		{"soft force", []string{aVM("Always", status), vmi}, `{"gracePeriodSeconds":5}`, 400, "For force restart, only gracePeriod=0 is supported for now", "Always"},
		{"negative force", []string{aVM("Always", status), vmi}, `{"gracePeriodSeconds":-5}`, 400, "gracePeriod has to be greater or equal to 0", "Always"},
		{"volumes on the move", []string{aVM("Always", condition("VolumesChange")), vmi}, "", 409, "recovery", "Always"},
	})
	h := setUp(t, nil, aVM("Always", status), vmi)
	h.do(t, routes.Restart, nil, "", `{"gracePeriodSeconds":0}`)
	if got := *h.readVMI(t).Spec.TerminationGracePeriodSeconds; got != 1 {
		t.Errorf("a forced restart gives the guest %d seconds", got)
	}
}

func TestMigrate(t *testing.T) {
	list := func(h *harness) []v1.VirtualMachineInstanceMigration {
		l := &v1.VirtualMachineInstanceMigrationList{}
		if err := h.Client.List(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		return l.Items
	}
	h := setUp(t, nil, aVM("Always", status), aVMI("Running", "", ""))
	if a := h.do(t, routes.MigrateVM, nil, "", `{"addedNodeSelector":{"zone":"b"}}`); a.code != 202 {
		t.Errorf("%+v", a)
	}
	made := list(h)
	if len(made) != 1 || made[0].Spec.VMIName != "vm" || made[0].Spec.AddedNodeSelector["zone"] != "b" || !strings.HasPrefix(made[0].Name, "kubevirt-migrate-vm-") {
		t.Errorf("%+v", made)
	}
	for _, c := range []struct {
		name    string
		objects []string
		code    int
		message string
	}{
		{"no VM", nil, 404, "not found"},
		{"stopped", []string{aVM("Halted", status)}, 404, "virtualmachineinstance.kubevirt.io"},
		{"starting", []string{aVM("Always", status), aVMI("Scheduling", "", "")}, 409, "VM is not running"},
	} {
		h := setUp(t, nil, c.objects...)
		if a := h.do(t, routes.MigrateVM, nil, "", ""); a.code != c.code || !strings.Contains(a.message, c.message) || len(list(h)) != 0 {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
}

func TestEvacuateCancel(t *testing.T) {
	const node = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {taints: [{key: kubevirt.io/drain, effect: %s}]}}"
	vmi := aVMI("Running", "", "evacuationNodeName: n1")
	for _, c := range []struct {
		name    string
		handler routes.Handler
		objects []string
		body    string
		code    int
		message string
		left    string
	}{
		{"of a VMI", routes.VMICancelEvac, []string{vmi}, `{"evacuationNodeName":"n1"}`, 200, "", ""},
		{"of a VM", routes.VMCancelEvac, []string{vmi, aVM("Always", status)}, ``, 200, "", ""},
		{"of a stopped VM", routes.VMCancelEvac, []string{aVM("Always", status)}, ``, 409, "VMI is not started", ""},
		{"of nothing", routes.VMCancelEvac, nil, ``, 404, "not found", ""},
		{"dry run", routes.VMICancelEvac, []string{vmi}, `{"dryRun":["All"]}`, 200, "", "n1"},
		{"not evacuated", routes.VMICancelEvac, []string{aVMI("Running", "", "")}, ``, 200, "", ""},
		{"drained", routes.VMICancelEvac, []string{vmi, strings.Replace(node, "%s", "NoSchedule", 1)}, ``, 400, "kubevirt.io/drain:NoSchedule", "n1"},
		{"tainted otherwise", routes.VMICancelEvac, []string{vmi, strings.Replace(node, "%s", "NoExecute", 1)}, ``, 200, "", ""},
	} {
		h := setUp(t, nil, c.objects...)
		if a := h.do(t, c.handler, nil, "", c.body); a.code != c.code || !strings.Contains(a.message, c.message) {
			t.Errorf("%s: %+v", c.name, a)
		}
		if len(c.objects) > 0 && strings.Contains(c.objects[0], "Instance") {
			if got := h.readVMI(t).Status.EvacuationNodeName; got != c.left {
				t.Errorf("%s: evacuated from %q", c.name, got)
			}
		}
	}
}
