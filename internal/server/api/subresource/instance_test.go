package subresource

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"virtctl/internal/server/api/routes"
)

func TestInstanceRequests(t *testing.T) {
	vmi := aVMI("Running", "", "")
	paused := aVMI("Running", "", condition("Paused"))
	with := func(spec string) string { return aVMI("Running", spec, "") }
	owned := strings.Replace(paused, "uid: vmi-uid", "uid: vmi-uid, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: vm, uid: vm-uid, controller: true}]", 1)
	for _, c := range []struct {
		name    string
		handler routes.Handler
		objects []string
		body    string
		code    int
		message string
		asked   string
	}{
		{"pause", routes.Pause, []string{vmi}, "", 200, "", "pause vm {}"},
		{"pause, dry run", routes.Pause, []string{vmi}, `{"dryRun":["All"]}`, 200, "", ""},
		{"pause, half dry", routes.Pause, []string{vmi}, `{"dryRun":["Some"]}`, 400, "dryRun", ""},
		{"pause nothing", routes.Pause, nil, "", 404, `virtualmachineinstance.kubevirt.io "vm" not found`, ""},
		{"pause too early", routes.Pause, []string{aVMI("Scheduled", "", "")}, "", 409, "VMI is not running", ""},
		{"pause twice", routes.Pause, []string{paused}, "", 409, "VMI is already paused", ""},
		{"pause what is watched", routes.Pause, []string{with(", livenessProbe: {tcpSocket: {port: 22}}")}, "", 403, "Pausing VMIs with LivenessProbe is currently not supported", ""},
		{"pause what is watched by the agent", routes.Pause, []string{with(", livenessProbe: {guestAgentPing: {}}")}, "", 200, "", "pause vm {}"},
		{"unpause", routes.Unpause, []string{paused}, "", 200, "", "unpause vm {}"},
		{"unpause what runs", routes.Unpause, []string{vmi}, "", 409, "VMI is not paused", ""},
		{"unpause too late", routes.Unpause, []string{aVMI("Failed", "", "")}, "", 409, "VMI is not running", ""},
		{"unpause during a snapshot", routes.Unpause, []string{owned, aVM("Always", "snapshotInProgress: s")}, "", 409, "VM snapshot is in progress", ""},
		{"unpause during another's snapshot", routes.Unpause, []string{paused, aVM("Always", "snapshotInProgress: s")}, "", 200, "", "unpause vm {}"},
		{"freeze", routes.Freeze, []string{vmi}, `{"unfreezeTimeout":"5m0s"}`, 200, "", `freeze vm {"unfreezeTimeout":"5m0s"}`},
		{"freeze without a limit", routes.Freeze, []string{vmi}, "", 200, "", `freeze vm {"unfreezeTimeout":null}`},
		{"freeze backwards", routes.Freeze, []string{vmi}, `{"unfreezeTimeout":"-1s"}`, 400, "unfreezeTimeout", ""},
		{"freeze too early", routes.Freeze, []string{aVMI("Pending", "", "")}, "", 409, "VMI is not running", ""},
		{"unfreeze", routes.Unfreeze, []string{vmi}, "", 200, "", "unfreeze vm {}"},
		{"reset", routes.Reset, []string{vmi}, "", 200, "", "reset vm {}"},
		{"reset too early", routes.Reset, []string{aVMI("Scheduling", "", "")}, "", 409, "Failed to reset non-running VMI with phase Scheduling", ""},
		{"reboot", routes.SoftReboot, []string{vmi}, "", 200, "", "softreboot vm {}"},
		{"reboot what is paused", routes.SoftReboot, []string{paused}, "", 409, "VMI is paused", ""},
		{
			"reboot without ACPI", routes.SoftReboot,
			[]string{strings.Replace(vmi, "devices: {}", "devices: {}, features: {acpi: {enabled: false}}", 1)},
			"", 409,
			"VMI neither have the agent connected nor the ACPI feature enabled", "",
		},
		{"reboot without ACPI, by the agent", routes.SoftReboot, []string{strings.Replace(aVMI("Running", "", condition("AgentConnected")), "devices: {}", "devices: {}, features: {acpi: {enabled: false}}", 1)}, "", 200, "", "softreboot vm {}"},
		{"guest info without an agent", routes.GuestOSInfo, []string{vmi}, "", 409, "VMI does not have guest agent connected", ""},
		{"guest info of nothing that runs", routes.UserList, []string{aVMI("Succeeded", "", "")}, "", 409, "VMI is not running", ""},
		{"screenshot without a screen", routes.Screenshot, []string{strings.Replace(vmi, "devices: {}", "devices: {autoattachGraphicsDevice: false}", 1)}, "", 400, "No graphics devices are present.", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := setUp(t, nil, c.objects...)
			a := h.do(t, c.handler, nil, "", c.body)
			if a.code != c.code || !strings.Contains(a.message, c.message) {
				t.Errorf("%d %q, want %d %q", a.code, a.message, c.code, c.message)
			}
			if got := strings.Join(h.node.asked, "; "); got != c.asked {
				t.Errorf("the agent was asked %q, want %q", got, c.asked)
			}
		})
	}
}

func TestGuestAnswersArePassedOn(t *testing.T) {
	for handler, verb := range map[routes.Handler]string{
		routes.GuestOSInfo: "guestosinfo", routes.UserList: "userlist", routes.FilesystemList: "filesystemlist", routes.Screenshot: "vnc/screenshot",
	} {
		h := setUp(t, nil, aVMI("Running", "", condition("AgentConnected")))
		h.node.answer = `{"hostname":"x"}`
		if a := h.do(t, handler, nil, "", ""); a.code != 200 || a.body != h.node.answer || h.node.asked[0] != verb {
			t.Errorf("%s: %+v %v", handler, a, h.node.asked)
		}
		h.node.err = apierrors.NewInternalError(apierrors.NewBadRequest("away"))
		if a := h.do(t, handler, nil, "", ""); a.code != 500 || !strings.Contains(a.message, "away") {
			t.Errorf("%s: %+v", handler, a)
		}
	}
}

func TestVolumes(t *testing.T) {
	const add = `{"name":"data","disk":{"disk":{"bus":"scsi"},"serial":"S1"},"volumeSource":{"dataVolume":{"name":"dv"}}}`
	const remove = `{"name":"data"}`
	vm := func(volumes, disks string) string {
		return strings.Replace(aVM("Always", status), "{spec: {domain: {devices: {}}}}", "{spec: {domain: {devices: {disks: ["+disks+"]}}, volumes: ["+volumes+"]}}", 1)
	}
	const plugged = "{name: data, dataVolume: {name: dv, hotpluggable: true}}"
	for _, c := range []struct {
		name, vm  string
		handler   routes.Handler
		body      string
		gates     []string
		code      int
		message   string
		volumes   int
		remaining int
	}{
		{"add", aVM("Always", status), routes.VMAddVolume, add, nil, 202, "", 1, 1},
		{"add a second", vm("{name: root, containerDisk: {image: x}}", "{name: root, disk: {}}"), routes.VMAddVolume, add, nil, 202, "", 2, 2},
		{"add, dry run", aVM("Always", status), routes.VMAddVolume, strings.Replace(add, "{", `{"dryRun":["All"],`, 1), nil, 202, "", 0, 0},
		{"same name", vm(plugged, ""), routes.VMAddVolume, add, nil, 409, "Unable to add volume [data] because volume with that name already exists", 1, 0},
		{"same source", vm("{name: other, dataVolume: {name: dv}}", ""), routes.VMAddVolume, add, nil, 409, "Unable to add volume source [dv] because it already exists", 1, 0},
		{"same disk", vm("", "{name: data, disk: {}}"), routes.VMAddVolume, add, nil, 409, "already exists", 0, 1},
		{"no name", aVM("Always", status), routes.VMAddVolume, `{"disk":{},"volumeSource":{"dataVolume":{"name":"dv"}}}`, nil, 400, "requires name", 0, 0},
		{"no disk", aVM("Always", status), routes.VMAddVolume, `{"name":"a","volumeSource":{"dataVolume":{"name":"dv"}}}`, nil, 400, "requires disk", 0, 0},
		{"no source", aVM("Always", status), routes.VMAddVolume, `{"name":"a","disk":{}}`, nil, 400, "requires VolumeSource", 0, 0},
		{"nothing", aVM("Always", status), routes.VMAddVolume, ``, nil, 400, "requires name", 0, 0},
		{"gate off", aVM("Always", status), routes.VMAddVolume, add, []string{"-DeclarativeHotplugVolumes"}, 400, hotplugOff, 0, 0},
		{"remove", vm(plugged, "{name: data, disk: {bus: scsi}}"), routes.VMRemoveVolume, remove, nil, 202, "", 0, 0},
		{"take a medium out", vm(plugged, "{name: data, cdrom: {bus: sata}}"), routes.VMRemoveVolume, remove, nil, 202, "", 0, 1},
		{"remove nothing", aVM("Always", status), routes.VMRemoveVolume, remove, nil, 409, "Unable to remove volume [data] because it does not exist", 0, 0},
		{"remove the root disk", vm("{name: data, containerDisk: {image: x}}", "{name: data, disk: {}}"), routes.VMRemoveVolume, remove, nil, 409, "Unable to remove volume [data] because it is not hotpluggable", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := setUp(t, c.gates, c.vm)
			if a := h.do(t, c.handler, nil, "", c.body); a.code != c.code || !strings.Contains(a.message, c.message) {
				t.Errorf("%d %q", a.code, a.message)
			}
			spec := h.readVM(t).Spec.Template.Spec
			if len(spec.Volumes) != c.volumes || len(spec.Domain.Devices.Disks) != c.remaining {
				t.Errorf("%+v %+v", spec.Volumes, spec.Domain.Devices.Disks)
			}
			if c.name == "add" && (!spec.Volumes[0].DataVolume.Hotpluggable || spec.Domain.Devices.Disks[0].Name != "data" || spec.Domain.Devices.Disks[0].Serial != "S1") {
				t.Errorf("%+v %+v", spec.Volumes, spec.Domain.Devices.Disks)
			}
		})
	}
}

func TestVolumesInTheOldWay(t *testing.T) {
	h := setUp(t, []string{"HotplugVolumes"}, aVM("Always", status))
	const add = `{"name":"data","disk":{"disk":{}},"volumeSource":{"persistentVolumeClaim":{"claimName":"c"}}}`
	if a := h.do(t, routes.VMAddVolume, nil, "", add); a.code != 202 {
		t.Errorf("%+v", a)
	}
	vm := h.readVM(t)
	if len(vm.Status.VolumeRequests) != 1 || len(vm.Spec.Template.Spec.Volumes) != 0 {
		t.Errorf("%+v", vm.Status)
	}
	if a := h.do(t, routes.VMAddVolume, nil, "", add); a.code != 409 {
		t.Errorf("twice: %+v", a)
	}
}

func TestVolumesOfAnInstance(t *testing.T) {
	const add = `{"name":"data","disk":{"disk":{}},"volumeSource":{"persistentVolumeClaim":{"claimName":"c"}}}`
	h := setUp(t, nil, aVMI("Running", "", ""))
	if a := h.do(t, routes.VMIAddVolume, nil, "", add); a.code != 202 {
		t.Errorf("%+v", a)
	}
	if spec := h.readVMI(t).Spec; len(spec.Volumes) != 1 || spec.Domain.Devices.Disks[0].Disk.Bus != "scsi" {
		t.Errorf("%+v", spec)
	}
	if a := h.do(t, routes.VMIRemoveVolume, nil, "", `{"name":"data"}`); a.code != 202 || len(h.readVMI(t).Spec.Volumes) != 0 {
		t.Errorf("%+v", a)
	}
	if a := setUp(t, nil, aVMI("Pending", "", "")).do(t, routes.VMIAddVolume, nil, "", add); a.code != 409 {
		t.Errorf("not running: %+v", a)
	}
	owned := strings.Replace(aVMI("Running", "", ""), "uid: vmi-uid", "ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: vm, uid: vm-uid, controller: true}]", 1)
	if a := setUp(t, nil, owned).do(t, routes.VMIAddVolume, nil, "", add); a.code != 400 || !strings.Contains(a.message, "owned by a VM") {
		t.Errorf("owned: %+v", a)
	}
}

func TestExpand(t *testing.T) {
	plain := aVM("Always", status)
	typed := strings.Replace(plain, "runStrategy", "instancetype: {name: u1.small}, runStrategy", 1)
	h := setUp(t, nil, plain)
	if a := h.do(t, routes.ExpandSpec, nil, "", ""); a.code != 200 || !strings.Contains(a.body, `"kind":"VirtualMachine"`) {
		t.Errorf("%+v", a)
	}
	if a := setUp(t, nil).do(t, routes.ExpandSpec, nil, "", ""); a.code != 404 {
		t.Errorf("%+v", a)
	}
	if a := setUp(t, nil, typed).do(t, routes.ExpandSpec, nil, "", ""); a.code != 400 || !strings.Contains(a.message, "u1.small") {
		t.Errorf("%+v", a)
	}
	for _, c := range []struct {
		body    string
		code    int
		message string
	}{
		{plain, 200, ""},
		{`{"metadata":{"name":"x"},"spec":{"template":{"spec":{"domain":{"devices":{}}}}}}`, 200, ""},
		{``, 400, "empty"},
		{`{"spec":{"speed":1}}`, 400, "Object is not a valid VirtualMachine"},
		{`{"metadata":{"namespace":"other"}}`, 400, "namespace must be empty or ns"},
		{typed, 400, "u1.small"},
	} {
		a := h.do(t, routes.ExpandBody, nil, "", c.body)
		if a.code != c.code || !strings.Contains(a.message, c.message) {
			t.Errorf("%s: %+v", c.body, a)
		}
		if c.code == 400 && strings.Contains(c.body, "speed") && !strings.Contains(a.body, `"field":"spec.speed"`) {
			t.Errorf("no cause: %s", a.body)
		}
	}
}

func TestPlatform(t *testing.T) {
	const kubevirt = `{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {name: kubevirt, namespace: kubevirt}, status: {observedKubeVirtRegistry: r, observedKubeVirtVersion: v1,
		observedDeploymentConfig: '{"registry":"quay.io/x","imagePrefix":"p-","kubeVirtVersion":"v2"}'}}`
	h := setUp(t, nil, kubevirt)
	for handler, want := range map[routes.Handler]string{
		routes.Version: `"gitVersion":"v1.9.0`, routes.GuestFS: `{"registry":"quay.io/x","tag":"v2","imagePrefix":"p-"}`,
		routes.Healthz: `"apiserver":{"connectivity":"ok","version":"v1.36.3"}`,
	} {
		if a := h.do(t, handler, nil, "", ""); a.code != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %+v", handler, a)
		}
	}
	if a := setUp(t, nil).do(t, routes.GuestFS, nil, "", ""); a.code != 500 || !strings.Contains(a.message, "virtctl install") {
		t.Errorf("not installed: %+v", a)
	}
}

func TestObjectGraph(t *testing.T) {
	vm := `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: vm, namespace: ns}, spec: {runStrategy: Always, instancetype: {name: u1.small},
		template: {spec: {domain: {devices: {}}, networks: [{name: red, multus: {networkName: red}}], accessCredentials: [{sshPublicKey: {source: {secret: {secretName: keys}}, propagationMethod: {}}}],
		volumes: [{name: a, dataVolume: {name: dv}}, {name: b, cloudInitNoCloud: {secretRef: {name: init}}}, {name: c, configMap: {name: cm}}]}}}}`
	h := setUp(t, []string{"ObjectGraph"}, vm, aVMI("Running", "", ""))
	a := h.do(t, routes.VMGraph, nil, "", "")
	for _, want := range []string{
		`"kind":"DataVolume","name":"dv"`, `"kind":"PersistentVolumeClaim","name":"dv"`, `"name":"init"`, `"name":"cm"`, `"name":"keys"`,
		`"kind":"NetworkAttachmentDefinition"`, `"kind":"virtualmachineclusterinstancetype","name":"u1.small"}`, `"kind":"VirtualMachineInstance"`,
	} {
		if a.code != 200 || !strings.Contains(a.body, want) {
			t.Errorf("no %s in %s", want, a.body)
		}
	}
	if a := h.do(t, routes.VMGraph, nil, "includeOptionalNodes=false&labelSelector=kubevirt.io/dependency-type=storage", ""); strings.Contains(a.body, "cm") || !strings.Contains(a.body, "dv") {
		t.Errorf("filtered: %s", a.body)
	}
	if a := h.do(t, routes.VMIGraph, nil, "includeOptionalNodes=perhaps", ""); a.code != 400 {
		t.Errorf("%+v", a)
	}
	if a := setUp(t, nil, vm).do(t, routes.VMGraph, nil, "", ""); a.code != 400 || a.message != "ObjectGraph feature gate not enabled: Unable to return object graph." {
		t.Errorf("%+v", a)
	}
}
