package defaults

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/api/expand"
)

func cluster(configuration string) clusterconfig.Config {
	kv := &v1.KubeVirt{}
	if err := yaml.UnmarshalStrict([]byte(configuration), &kv.Spec.Configuration); err != nil {
		panic(err)
	}
	kv.Status.DefaultArchitecture = "amd64"
	return clusterconfig.Effective(kv)
}

// at walks a JSON object: maps by key, lists by number.
func at(object any, path ...any) any {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			m, _ := object.(map[string]any)
			object = m[s]
		case int:
			l, _ := object.([]any)
			if s >= len(l) {
				return nil
			}
			object = l[s]
		}
	}
	return object
}

func generic(t *testing.T, object any) any {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func path(steps ...any) []any { return steps }

// What a guest gets when its owner says nothing is the public contract: a guest that gets something else stops booting.
func TestSpec(t *testing.T) {
	type tc struct {
		name, cluster, spec string
		path                []any
		want                any
	}
	domain := func(steps ...any) []any { return append([]any{"domain"}, steps...) }
	devices := func(steps ...any) []any { return append([]any{"domain", "devices"}, steps...) }
	for _, c := range []tc{
		{"architecture", ``, `{}`, path("architecture"), "amd64"},
		{"machine", ``, `{}`, domain("machine", "type"), "q35"},
		{"machine of the cluster", `machineType: pc-q35-8.2`, `{}`, domain("machine", "type"), "pc-q35-8.2"},
		{"machine of arm64", ``, `architecture: arm64`, domain("machine", "type"), "virt"},
		{"given machine", ``, `domain: {machine: {type: pc-q35-7.0}}`, domain("machine", "type"), "pc-q35-7.0"},
		{"guest memory from request", ``, `domain: {resources: {requests: {memory: 64M}}}`, domain("memory", "guest"), "64M"},
		{"guest memory from limit", ``, `domain: {resources: {limits: {memory: 1Gi}}}`, domain("memory", "guest"), "1Gi"},
		{"guest memory from hugepage", ``, `domain: {memory: {hugepages: {pageSize: 1Gi}}}`, domain("memory", "guest"), "1Gi"},
		{"memory request from limit", ``, `domain: {resources: {limits: {memory: 1Gi}}}`, domain("resources", "requests", "memory"), "1Gi"},
		{"CPU request from limit", ``, `domain: {resources: {limits: {cpu: 3}}}`, domain("resources", "requests", "cpu"), "3"},
		{"no CPU request", ``, `{}`, domain("resources", "requests"), nil},
		{"CPU request of the cluster", `cpuRequest: 250m`, `{}`, domain("resources", "requests", "cpu"), "250m"},
		{"CPU request of pinned guests", `cpuRequest: 250m`, `domain: {cpu: {dedicatedCpuPlacement: true}}`, domain("resources", "requests"), nil},
		{"one socket", ``, `{}`, domain("cpu", "sockets"), 1.},
		{"one core", ``, `{}`, domain("cpu", "cores"), 1.},
		{"sockets from limit", ``, `domain: {resources: {limits: {cpu: 3}, requests: {cpu: 1}}}`, domain("cpu", "sockets"), 3.},
		{"sockets from request", ``, `domain: {resources: {requests: {cpu: 1500m}}}`, domain("cpu", "sockets"), 2.},
		{"sockets from a request that no node meets", ``, `domain: {resources: {requests: {cpu: 1M}}}`, domain("cpu", "sockets"), 4096.},
		{"sockets beside cores", ``, `domain: {cpu: {cores: 2}, resources: {limits: {cpu: 8}}}`, domain("cpu", "sockets"), 1.},
		{"CPU model", ``, `{}`, domain("cpu", "model"), "host-model"},
		{"CPU model of the cluster", `cpuModel: Haswell`, `{}`, domain("cpu", "model"), "Haswell"},
		{"CPU model of arm64", ``, `architecture: arm64`, domain("cpu", "model"), "host-passthrough"},
		{"CPU feature's policy", ``, `domain: {cpu: {features: [{name: aes}]}}`, domain("cpu", "features", 0, "policy"), "require"},
		{"eviction", ``, `{}`, path("evictionStrategy"), "None"},
		{"eviction of the cluster", `evictionStrategy: LiveMigrate`, `{}`, path("evictionStrategy"), "LiveMigrate"},

		{"network", ``, `{}`, devices("interfaces", 0, "bridge"), map[string]any{}},
		{"network of the cluster", `network: {defaultNetworkInterface: masquerade}`, `{}`, devices("interfaces", 0, "masquerade"), map[string]any{}},
		{"pod network", ``, `{}`, path("networks", 0), map[string]any{"name": "default", "pod": map[string]any{}}},
		{"no network", ``, `domain: {devices: {autoattachPodInterface: false}}`, path("networks"), nil},
		{"given network", ``, `networks: [{name: red, multus: {networkName: red}}]`, devices("interfaces"), nil},

		{"disk for a volume", ``, `volumes: [{name: a, emptyDisk: {capacity: 1Gi}}]`, devices("disks", 0, "name"), "a"},
		{"no disk for a file system", ``, `{volumes: [{name: a, configMap: {name: c}}], domain: {devices: {filesystems: [{name: a, virtiofs: {}}]}}}`, devices("disks"), nil},
		{"no disk for a memory dump", ``, `volumes: [{name: a, memoryDump: {claimName: c}}]`, devices("disks"), nil},
		{"sata", ``, `{volumes: [{name: a, emptyDisk: {capacity: 1Gi}}]}`, devices("disks", 0, "disk", "bus"), "sata"},
		{"virtio on arm64", ``, `{architecture: arm64, volumes: [{name: a, emptyDisk: {capacity: 1Gi}}]}`, devices("disks", 0, "disk", "bus"), "virtio"},
		{"read-only CD-ROM", ``, `domain: {devices: {disks: [{name: a, cdrom: {}}]}}`, devices("disks", 0, "cdrom"), map[string]any{"bus": "sata", "readonly": true, "tray": "closed"}},
		{"LUN", ``, `domain: {devices: {disks: [{name: a, lun: {}}]}}`, devices("disks", 0, "lun", "bus"), "sata"},
		{"input", ``, `domain: {devices: {inputs: [{name: a}]}}`, devices("inputs", 0), map[string]any{"name": "a", "bus": "usb", "type": "tablet"}},
		{"an input", ``, `domain: {devices: {autoattachInputDevice: true}}`, devices("inputs", 0), map[string]any{"name": "default-0", "bus": "usb", "type": "tablet"}},
		{"no input", ``, `domain: {devices: {autoattachInputDevice: false}}`, devices("inputs"), nil},
		{"watchdog", ``, `domain: {devices: {watchdog: {name: w}}}`, devices("watchdog", "i6300esb", "action"), "reset"},
		{"watchdog of s390x", ``, `{architecture: s390x, domain: {devices: {watchdog: {name: w}}}}`, devices("watchdog", "diag288", "action"), "reset"},
		{"EFI on arm64", ``, `architecture: arm64`, domain("firmware", "bootloader", "efi", "secureBoot"), false},
		{
			"probe", ``, `readinessProbe: {guestAgentPing: {}}`, path("readinessProbe"),
			map[string]any{"guestAgentPing": map[string]any{}, "timeoutSeconds": 1., "periodSeconds": 10., "successThreshold": 1., "failureThreshold": 3.},
		},
		{"ACPI", ``, `{}`, domain("features", "acpi", "enabled"), true},
		{"feature", ``, `domain: {features: {smm: {}}}`, domain("features", "smm", "enabled"), true},
		{"feature that is off", ``, `domain: {features: {acpi: {enabled: false}}}`, domain("features", "acpi", "enabled"), false},
		{"timer", ``, `domain: {clock: {timer: {hpet: {}}}}`, domain("clock", "timer", "hpet", "present"), true},
		{"spinlocks", ``, `domain: {features: {hyperv: {spinlocks: {}}}}`, domain("features", "hyperv", "spinlocks", "spinlocks"), 4096.},
		{"Hyper-V timer's ground", ``, `domain: {features: {hyperv: {synictimer: {}}}}`, domain("features", "hyperv", "vpindex", "enabled"), true},
		{"Hyper-V VMCS's ground", ``, `domain: {features: {hyperv: {evmcs: {}}}}`, domain("features", "hyperv", "vapic", "enabled"), true},
		{"Hyper-V VMCS's CPU", ``, `domain: {features: {hyperv: {evmcs: {}}}}`, domain("cpu", "features", 0), map[string]any{"name": "vmx", "policy": "require"}},
		{"Hyper-V ground that was taken away", ``, `domain: {features: {hyperv: {ipi: {}, vpindex: {enabled: false}}}}`, domain("features", "hyperv", "vpindex", "enabled"), false},
		{"pull policy", ``, `volumes: [{name: a, containerDisk: {image: "x:1"}}]`, path("volumes", 0, "containerDisk", "imagePullPolicy"), "IfNotPresent"},
		{"kernel's pull policy", ``, `domain: {firmware: {kernelBoot: {container: {image: x}}}}`, domain("firmware", "kernelBoot", "container", "imagePullPolicy"), "Always"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := &v1.VirtualMachineInstanceSpec{}
			if err := yaml.UnmarshalStrict([]byte(c.spec), spec); err != nil {
				t.Fatal(err)
			}
			if err := Spec(spec, cluster(c.cluster)); err != nil {
				t.Fatal(err)
			}
			if got := at(generic(t, spec), c.path...); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v is %v, want %v", c.path, got, c.want)
			}
			once := generic(t, spec)
			if err := Spec(spec, cluster(c.cluster)); err != nil {
				t.Fatal(err)
			}
			if twice := generic(t, spec); !reflect.DeepEqual(once, twice) {
				t.Errorf("completing it twice changes it:\n%v\n%v", once, twice)
			}
		})
	}
}

func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]string{
		"x": "Always", "x:latest": "Always", "registry:5000/x": "Always", "x:1": "IfNotPresent", "registry:5000/a/x:1": "IfNotPresent",
		"x@sha256:abc": "IfNotPresent", "x:latest@sha256:abc": "IfNotPresent", "": "Always",
	} {
		if got := string(pullPolicy(image)); got != want {
			t.Errorf("%q: %s, want %s", image, got, want)
		}
	}
}

func TestNetworkThatTheClusterForbids(t *testing.T) {
	for _, configuration := range []string{`network: {permitBridgeInterfaceOnPodNetwork: false}`, `network: {defaultNetworkInterface: slirp}`} {
		if err := Spec(&v1.VirtualMachineInstanceSpec{}, cluster(configuration)); err == nil {
			t.Errorf("%s: no error", configuration)
		}
	}
}

func TestVMI(t *testing.T) {
	for _, c := range []struct {
		name, cluster, vmi string
		path               []any
		want               any
	}{
		{"phase", ``, `{}`, path("status", "phase"), "Pending"},
		{"user", ``, `{}`, path("status", "runtimeUser"), 107.},
		{"user with the gate Root", `developerConfiguration: {featureGates: [Root]}`, `{}`, path("status", "runtimeUser"), 0.},
		{"finalizer", ``, `{}`, path("metadata", "finalizers", 0), "kubevirt.io/foregroundDeleteVirtualMachine"},
		{"PCI topology", ``, `{}`, path("metadata", "annotations", "kubevirt.io/pci-topology-version"), "v3"},
		{"older PCI topology", ``, `metadata: {annotations: {kubevirt.io/pci-topology-version: v2}}`, path("metadata", "annotations", "kubevirt.io/pci-topology-version"), "v2"},
		{"topology", ``, `spec: {domain: {cpu: {sockets: 2}}}`, path("status", "currentCPUTopology"), map[string]any{"sockets": 2., "cores": 1., "threads": 1.}},
		{"memory", ``, `spec: {domain: {memory: {guest: 1Gi}}}`, path("status", "memory"), map[string]any{"guestAtBoot": "1Gi", "guestCurrent": "1Gi", "guestRequested": "1Gi"}},
		{"pluggable CPUs", ``, `spec: {domain: {cpu: {sockets: 2}}}`, path("spec", "domain", "cpu", "maxSockets"), 8.},
		{"given maximum", ``, `spec: {domain: {cpu: {sockets: 2, maxSockets: 3}}}`, path("spec", "domain", "cpu", "maxSockets"), 3.},
		{"maximum of the cluster", `liveUpdateConfiguration: {maxCpuSockets: 16}`, `{}`, path("spec", "domain", "cpu", "maxSockets"), 16.},
		{"maximum of the cluster below what is there", `liveUpdateConfiguration: {maxCpuSockets: 1}`, `spec: {domain: {cpu: {sockets: 2}}}`, path("spec", "domain", "cpu", "maxSockets"), 2.},
		{"at most 512 vCPUs", ``, `spec: {domain: {cpu: {sockets: 4, cores: 64}}}`, path("spec", "domain", "cpu", "maxSockets"), 8.},
		{"ratio", `liveUpdateConfiguration: {maxHotplugRatio: 2}`, `spec: {domain: {cpu: {sockets: 2}}}`, path("spec", "domain", "cpu", "maxSockets"), 4.},
		{"staged changes", `vmRolloutStrategy: Stage`, `{}`, path("spec", "domain", "cpu", "maxSockets"), nil},
		{"arm64", ``, `spec: {architecture: arm64}`, path("spec", "domain", "cpu", "maxSockets"), nil},
		{"pluggable memory", ``, `spec: {domain: {memory: {guest: 1Gi}}}`, path("spec", "domain", "memory", "maxGuest"), "4Gi"},
		{"pluggable memory of the cluster", `liveUpdateConfiguration: {maxGuest: 8Gi}`, `spec: {domain: {memory: {guest: 1Gi}}}`, path("spec", "domain", "memory", "maxGuest"), "8Gi"},
		{"memory of a small guest", ``, `spec: {domain: {memory: {guest: 128Mi}}}`, path("spec", "domain", "memory", "maxGuest"), nil},
		{"memory of an absurd guest", ``, `spec: {domain: {memory: {guest: 4Ei}}}`, path("spec", "domain", "memory", "maxGuest"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			vmi := &v1.VirtualMachineInstance{}
			if err := yaml.UnmarshalStrict([]byte(c.vmi), vmi); err != nil {
				t.Fatal(err)
			}
			if err := VMI(vmi, cluster(c.cluster), metav1.NewTime(time.Unix(1e9, 0))); err != nil {
				t.Fatal(err)
			}
			if got := at(generic(t, vmi), c.path...); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v is %v, want %v", c.path, got, c.want)
			}
		})
	}
}

func TestMemoryHotplug(t *testing.T) {
	for _, c := range []struct {
		name, spec, limit string
		ok                bool
	}{
		{"plain", `{architecture: amd64, domain: {memory: {guest: 1Gi}}}`, "4Gi", true},
		{"arm64", `{architecture: arm64, domain: {memory: {guest: 1Gi}}}`, "4Gi", false},
		{"encrypted", `{architecture: amd64, domain: {memory: {guest: 1Gi}, launchSecurity: {sev: {}}}}`, "4Gi", false},
		{"realtime", `{architecture: amd64, domain: {memory: {guest: 1Gi}, cpu: {realtime: {}}}}`, "4Gi", false},
		{"NUMA", `{architecture: amd64, domain: {memory: {guest: 1Gi}, cpu: {numa: {guestMappingPassthrough: {}}}}}`, "4Gi", false},
		{"small", `{architecture: amd64, domain: {memory: {guest: 512Mi}}}`, "4Gi", false},
		{"shrinking", `{architecture: amd64, domain: {memory: {guest: 4Gi}}}`, "1Gi", false},
		{"odd guest", `{architecture: amd64, domain: {memory: {guest: 1025Mi}}}`, "4Gi", false},
		{"odd limit", `{architecture: amd64, domain: {memory: {guest: 1Gi}}}`, "4097Mi", false},
		{"large pages", `{architecture: amd64, domain: {memory: {guest: 1Gi, hugepages: {pageSize: 1Gi}}}}`, "1026Mi", false},
	} {
		spec := &v1.VirtualMachineInstanceSpec{}
		if err := yaml.UnmarshalStrict([]byte(c.spec), spec); err != nil {
			t.Fatal(err)
		}
		limit := resource.MustParse(c.limit)
		if err := MemoryHotplug(spec, &limit); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A VM keeps its identity over its life, and follows the cluster in everything else.
func TestVM(t *testing.T) {
	vm := &v1.VirtualMachine{Spec: v1.VirtualMachineSpec{
		Instancetype: &v1.InstancetypeMatcher{Name: "a"}, Preference: &v1.PreferenceMatcher{Name: "b"},
		Template: &v1.VirtualMachineInstanceTemplateSpec{},
	}}
	if err := VM(t.Context(), vm, true, cluster(``), expand.Literal{}); err != nil {
		t.Fatal(err)
	}
	if vm.Spec.Instancetype.Kind != "virtualmachineclusterinstancetype" || vm.Spec.Preference.Kind != "virtualmachineclusterpreference" {
		t.Errorf("kinds %q %q", vm.Spec.Instancetype.Kind, vm.Spec.Preference.Kind)
	}
	if vm.Spec.Template.Spec.Domain.Machine != nil {
		t.Error("the machine type was set although a preference may prefer one")
	}
	uuid := vm.Spec.Template.Spec.Domain.Firmware.UUID
	if err := VM(t.Context(), vm, true, cluster(``), expand.Literal{}); err != nil || vm.Spec.Template.Spec.Domain.Firmware.UUID != uuid || len(vm.Finalizers) != 1 {
		t.Errorf("not settled: %v %v", vm.Finalizers, err)
	}
	old := &v1.VirtualMachine{Spec: v1.VirtualMachineSpec{Template: &v1.VirtualMachineInstanceTemplateSpec{}}}
	if err := VM(t.Context(), old, false, cluster(``), expand.Literal{}); err != nil || old.Spec.Template.Spec.Domain.Firmware != nil || len(old.Finalizers) != 0 {
		t.Errorf("an update made an identity: %+v %v", old.Spec.Template.Spec.Domain.Firmware, err)
	}
	if old.Spec.Template.Spec.Domain.Machine.Type != "q35" {
		t.Error("no machine type")
	}
}

// chooser prefers a machine type.
type chooser struct{ expand.Literal }

func (chooser) Applies(*v1.VirtualMachine) bool { return true }

func TestPreferredMachine(t *testing.T) {
	vm := &v1.VirtualMachine{Spec: v1.VirtualMachineSpec{
		Preference: &v1.PreferenceMatcher{Name: "b"}, Template: &v1.VirtualMachineInstanceTemplateSpec{},
	}}
	if err := VM(t.Context(), vm, true, cluster(``), chooser{}); err != nil {
		t.Error(err)
	}
	if vm.Spec.Template.Spec.Domain.Machine != nil {
		t.Error("a preference that cannot be applied was overruled")
	}
}
