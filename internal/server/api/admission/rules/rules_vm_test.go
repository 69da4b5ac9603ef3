package rules

import (
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/server/api/admission/defaults"
)

func vm(t *testing.T, patch string) *v1.VirtualMachine {
	t.Helper()
	base, err := yaml.YAMLToJSON([]byte("{metadata: {name: vm, namespace: ns}, spec: {runStrategy: Halted, template: {spec: " +
		"{domain: {memory: {guest: 64Mi}, devices: {}}, volumes: [{name: root, containerDisk: {image: x}}]}}}}"))
	if err != nil {
		t.Fatal(err)
	}
	change, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		t.Fatal(err)
	}
	if base, err = jsonpatch.MergePatch(base, change); err != nil {
		t.Fatal(err)
	}
	out := &v1.VirtualMachine{}
	if err := yaml.UnmarshalStrict(base, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func input(t *testing.T, vm, old *v1.VirtualMachine) VMInput {
	t.Helper()
	in := VMInput{Cluster: cluster(), VM: vm, Old: old}
	if vm.Spec.Template != nil {
		in.Effective = vm.Spec.Template.Spec.DeepCopy()
		if err := defaults.Spec(in.Effective, in.Cluster); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

func TestVM(t *testing.T) {
	dv := func(spec string) string {
		return "spec: {dataVolumeTemplates: [{metadata: {name: d}, spec: {" + spec + "}}], template: {spec: {volumes: [{name: root, dataVolume: {name: d}}]}}}"
	}
	const entry = "spec.dataVolumeTemplates[0]"
	const storage = "storage: {resources: {requests: {storage: 1Gi}}}"
	for _, c := range []struct{ name, patch, field string }{
		{"plain", `{}`, ""},
		{"no template", `spec: {template: null}`, "spec.template"},
		{"running", `spec: {runStrategy: null, running: true}`, ""},
		{"neither running nor strategy", `spec: {runStrategy: null}`, "spec.runStrategy"},
		{"both running and strategy", `spec: {running: true}`, "spec.running"},
		{"unknown strategy", `spec: {runStrategy: Sometimes}`, "spec.runStrategy"},
		{"receiver", `spec: {runStrategy: WaitAsReceiver}`, ""},
		{"name too long", `metadata: {name: ` + strings.Repeat("n", 250) + `}`, "metadata.name"},
		{"long name", `metadata: {name: ` + strings.Repeat("n", 200) + `}`, ""},
		{
			"a spec's error has the template's path", `spec: {template: {spec: {domain: {devices: {disks: [{name: root, bootOrder: 1, disk: {}}, {name: two, bootOrder: 1, disk: {}}]}}, volumes: [{name: root, containerDisk: {image: x}}, {name: two, containerDisk: {image: x}}]}}}`,
			"spec.template.spec.domain.devices.disks[1].bootOrder",
		},
		{"reserved label", `spec: {template: {metadata: {labels: {kubevirt.io/nodeName: n}}}}`, "spec.template.metadata.labels"},
		{"other label", `spec: {template: {metadata: {labels: {kubevirt.io/vm: n}}}}`, ""},
		{"ignition without its gate", `spec: {template: {metadata: {annotations: {kubevirt.io/ignitiondata: x}}}}`, "spec.template.metadata.annotations"},
		{"sidecar without its gate", `spec: {template: {metadata: {annotations: {hooks.kubevirt.io/hookSidecars: x}}}}`, "spec.template.metadata.annotations"},
		{"volumes strategy", `spec: {updateVolumesStrategy: Migration}`, ""},
		{"unknown volumes strategy", `spec: {updateVolumesStrategy: Copy}`, "spec.updateVolumesStrategy"},

		{"instance type", `spec: {instancetype: {name: u1.small, kind: VirtualMachineInstancetype}, preference: {name: fedora}, template: {spec: {domain: {memory: null}}}}`, ""},
		{"instance type and memory", `spec: {instancetype: {name: u1.small}}`, "spec.template.spec.domain.memory.guest"},
		{"instance type and CPUs", `spec: {instancetype: {name: u1.small}, template: {spec: {domain: {memory: null, cpu: {sockets: 2}}}}}`, "spec.template.spec.domain.cpu.sockets"},
		{"instance type and request", `spec: {instancetype: {name: u1.small}, template: {spec: {domain: {memory: null, resources: {requests: {memory: 1Gi}}}}}}`, "spec.template.spec.domain.resources.requests.memory"},
		{"nameless instance type", `spec: {instancetype: {kind: VirtualMachineInstancetype}, template: {spec: {domain: {memory: null}}}}`, "spec.instancetype.name"},
		{"inferred instance type", `spec: {instancetype: {inferFromVolume: root}, template: {spec: {domain: {memory: null}}}}`, ""},
		{"named and inferred", `spec: {instancetype: {name: x, inferFromVolume: root}, template: {spec: {domain: {memory: null}}}}`, "spec.instancetype.name"},
		{"kind of instance type", `spec: {instancetype: {name: x, kind: Size}, template: {spec: {domain: {memory: null}}}}`, "spec.instancetype.kind"},
		{"kind of preference", `spec: {preference: {name: x, kind: VirtualMachineInstancetype}}`, "spec.preference.kind"},

		{"data volume", dv(storage + `, source: {http: {url: "http://x"}}`), ""},
		{"data volume of a claim", dv(`pvc: {resources: {requests: {storage: 1Gi}}}, source: {blank: {}}`), ""},
		{"data volume by reference", dv(storage + `, sourceRef: {kind: DataSource, name: fedora}`), ""},
		{"data volume populated by others", dv(`storage: {dataSourceRef: {kind: X, name: x}}`), ""},
		{"data volume without storage", dv(`source: {blank: {}}`), entry + ".spec"},
		{"data volume with two storages", dv(storage + `, pvc: {}, source: {blank: {}}`), entry + ".spec"},
		{"data volume without a source", dv(storage), entry + ".spec"},
		{"data volume with source and reference", dv(storage + `, source: {blank: {}}, sourceRef: {kind: DataSource, name: a}`), entry + ".spec"},
		{"data volume with two sources", dv(storage + `, source: {blank: {}, upload: {}}`), entry + ".spec.source"},
		{"data volume's reference", dv(storage + `, sourceRef: {kind: Image, name: a}`), entry + ".spec.sourceRef.kind"},
		{"data volume that nobody uses", `spec: {dataVolumeTemplates: [{metadata: {name: d}, spec: {` + storage + `, source: {blank: {}}}}]}`, entry},
		{"nameless data volume", `spec: {dataVolumeTemplates: [{spec: {` + storage + `, source: {blank: {}}}}]}`, entry + ".name"},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, VM(input(t, vm(t, c.patch), nil)), c.field) })
	}
}

// The platform itself sets the labels that users may not.
func TestPlatformSetsReservedLabels(t *testing.T) {
	in := input(t, vm(t, `spec: {template: {metadata: {labels: {kubevirt.io/nodeName: n}}}}`), nil)
	in.Platform = true
	expect(t, VM(in), "")
}

func TestVMUpdate(t *testing.T) {
	for _, c := range []struct{ name, old, now, field string }{
		{"nothing", `{}`, `{}`, ""},
		{
			"what was wrong before stays, so that controllers can work", `spec: {template: {spec: {domain: {machine: {type: pentium}}}}}`,
			`{metadata: {finalizers: [x/y]}, spec: {template: {spec: {domain: {machine: {type: pentium}}}}}}`, "",
		},
		{
			"what was wrong before can be stopped", `spec: {runStrategy: Always, template: {spec: {domain: {machine: {type: pentium}}}}}`,
			`spec: {runStrategy: Halted, template: {spec: {domain: {machine: {type: pentium}}}}}`, "",
		},
		{"what becomes wrong", `{}`, `spec: {template: {spec: {domain: {machine: {type: pentium}}}}}`, "spec.template.spec.domain.machine.type"},
		{
			"volumes during a snapshot", `status: {snapshotInProgress: s}`, `spec: {template: {spec: {volumes: [{name: root, containerDisk: {image: other}}]}}}`,
			"spec.template.spec.volumes",
		},
		{
			"disks during a snapshot", `status: {snapshotInProgress: s}`, `spec: {template: {spec: {domain: {devices: {disks: [{name: root, disk: {bus: virtio}}]}}}}}`,
			"spec.template.spec.domain.devices.disks",
		},
		{"start during a snapshot", `status: {snapshotInProgress: s}`, `spec: {runStrategy: Always}`, "spec.runStrategy"},
		{"label during a snapshot", `status: {snapshotInProgress: s}`, `metadata: {labels: {a: b}}`, ""},
		{"start during a restore", `status: {restoreInProgress: r}`, `spec: {runStrategy: Always}`, "spec"},
		{"stop during a restore", `{spec: {runStrategy: Always}, status: {restoreInProgress: r}}`, `spec: {runStrategy: Halted}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, VM(input(t, vm(t, c.now), vm(t, c.old))), c.field) })
	}
}

func TestVMStatus(t *testing.T) {
	const requests = "status.volumeRequests"
	for _, c := range []struct{ name, patch, field string }{
		{"none", `{}`, ""},
		{"add", `status: {volumeRequests: [{addVolumeOptions: {name: a, disk: {name: a}, volumeSource: {dataVolume: {name: a}}}}]}`, ""},
		{"nothing", `status: {volumeRequests: [{}]}`, requests + "[0]"},
		{"both", `status: {volumeRequests: [{addVolumeOptions: {name: a, disk: {name: a}, volumeSource: {}}, removeVolumeOptions: {name: a}}]}`, requests + "[0]"},
		{"twice", `status: {volumeRequests: [{removeVolumeOptions: {name: a}}, {removeVolumeOptions: {name: a}}]}`, requests + "[1].name"},
		{"without a disk", `status: {volumeRequests: [{addVolumeOptions: {name: a, disk: null, volumeSource: {}}}]}`, requests + "[0].addVolumeOptions"},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, VMStatus(vm(t, c.patch), cluster()), c.field) })
	}
}

func vmi(t *testing.T, patch string) *v1.VirtualMachineInstance {
	t.Helper()
	base, err := yaml.YAMLToJSON([]byte("{metadata: {name: vm, namespace: ns}, spec: {" +
		"domain: {memory: {guest: 1Gi, maxGuest: 4Gi}, cpu: {sockets: 1, cores: 1, threads: 1, maxSockets: 4}, devices: {disks: [{name: root, disk: {bus: virtio}}]}}," +
		"volumes: [{name: root, containerDisk: {image: x}}, {name: plugged, dataVolume: {name: d, hotpluggable: true}}]}, status: {nodeName: n1}}"))
	if err != nil {
		t.Fatal(err)
	}
	change, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		t.Fatal(err)
	}
	if base, err = jsonpatch.MergePatch(base, change); err != nil {
		t.Fatal(err)
	}
	out := &v1.VirtualMachineInstance{}
	if err := yaml.UnmarshalStrict(base, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVMI(t *testing.T) {
	config := cluster()
	for _, c := range []struct{ name, patch, field string }{
		{"plain", `{}`, ""},
		{"reserved label", `metadata: {labels: {kubevirt.io/created-by: x}}`, "metadata.labels"},
		{"name too long", `metadata: {name: ` + strings.Repeat("n", 250) + `}`, "metadata.name"},
		{"spec", `spec: {domain: {machine: {type: pentium}}}`, "spec.domain.machine.type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := vmi(t, c.patch)
			if err := defaults.Spec(&m.Spec, config); err != nil {
				t.Fatal(err)
			}
			expect(t, VMI(m, config, false), c.field)
			if c.name == "reserved label" {
				expect(t, VMI(m, config, true), "")
			}
		})
	}
}

func TestVMIUpdate(t *testing.T) {
	for _, c := range []struct {
		name, patch    string
		user, platform string
	}{
		{"nothing", `{}`, "", ""},
		{"label", `metadata: {labels: {a: b}}`, "", ""},
		{"reserved label", `metadata: {labels: {kubevirt.io/nodeName: n2}}`, "metadata.labels", ""},
		{"sockets", `spec: {domain: {cpu: {sockets: 2}}}`, "spec", ""},
		{"sockets above maximum", `spec: {domain: {cpu: {sockets: 8}}}`, "spec", "spec.domain.cpu.sockets"},
		{"maximum of sockets", `spec: {domain: {cpu: {maxSockets: 8}}}`, "spec", "spec.domain.cpu.maxSockets"},
		{"cores", `spec: {domain: {cpu: {cores: 2}}}`, "spec", "spec.domain.cpu"},
		{"memory", `spec: {domain: {memory: {guest: 2Gi}}}`, "spec", ""},
		{"memory above maximum", `spec: {domain: {memory: {guest: 8Gi}}}`, "spec", "spec.domain.memory.guest"},
		{"maximum of memory", `spec: {domain: {memory: {maxGuest: 8Gi}}}`, "spec", "spec.domain.memory.maxGuest"},
		{"unplug", `spec: {volumes: [{name: root, containerDisk: {image: x}}]}`, "spec", ""},
		{"plug", `spec: {volumes: [{name: root, containerDisk: {image: x}}, {name: plugged, dataVolume: {name: d, hotpluggable: true}}, {name: more, dataVolume: {name: e, hotpluggable: true}}]}`, "spec", ""},
		{"take the root disk away", `spec: {volumes: [{name: plugged, dataVolume: {name: d, hotpluggable: true}}], domain: {devices: {disks: null}}}`, "spec", "spec.volumes"},
		{"another root image", `spec: {volumes: [{name: root, containerDisk: {image: other}}]}`, "spec", "spec.volumes"},
		{"grace period", `spec: {terminationGracePeriodSeconds: 1}`, "spec", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, after := vmi(t, `{}`), vmi(t, c.patch)
			expect(t, VMIUpdate(before, after, cluster(), false), c.user)
			expect(t, VMIUpdate(before, after, cluster(), true), c.platform)
		})
	}
}

// A node that was taken over must not draw VMs to itself, nor send its own where it wants them.
func TestAgentUpdate(t *testing.T) {
	for _, c := range []struct{ name, old, now, field string }{
		{"status", `{}`, `status: {phase: Running}`, ""},
		{"spec", `{}`, `spec: {terminationGracePeriodSeconds: 1}`, "spec"},
		{"claim it", `status: {nodeName: ""}`, `{metadata: {labels: {kubevirt.io/nodeName: n1}}, status: {nodeName: n1}}`, ""},
		{"give it away", `{}`, `status: {nodeName: n2}`, "status.nodeName"},
		{"label it away", `{}`, `metadata: {labels: {kubevirt.io/nodeName: n2}}`, "metadata.labels"},
		{"choose a target", `{}`, `status: {migrationState: {targetNode: n2}}`, "status.migrationState.targetNode"},
		{"ask to be evacuated", `{}`, `status: {evacuationNodeName: n1}`, "status.evacuationNodeName"},
		{"forget an evacuation", `status: {evacuationNodeName: n1}`, `{}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, AgentUpdate(vmi(t, c.old), vmi(t, c.now), "n1"), c.field) })
	}
}

func TestReplicaSet(t *testing.T) {
	const set = `{spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {domain: {memory: {guest: 64Mi}, devices: {}}}}}}`
	for _, c := range []struct{ name, patch, field string }{
		{"plain", `{}`, ""},
		{"no template", `spec: {template: null}`, "spec.template"},
		{"other labels", `spec: {selector: {matchLabels: {a: c}}}`, "spec.selector"},
		{"negative", `spec: {replicas: -1}`, "spec.replicas"},
		{"broken selector", `spec: {selector: {matchExpressions: [{key: a, operator: Like}]}}`, "spec.selector"},
		{"spec", `spec: {template: {spec: {domain: {machine: {type: pentium}}}}}`, "spec.template.spec.domain.machine.type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, _ := yaml.YAMLToJSON([]byte(set))
			change, _ := yaml.YAMLToJSON([]byte(c.patch))
			merged, err := jsonpatch.MergePatch(base, change)
			if err != nil {
				t.Fatal(err)
			}
			rs := &v1.VirtualMachineInstanceReplicaSet{}
			if err := yaml.UnmarshalStrict(merged, rs); err != nil {
				t.Fatal(err)
			}
			var effective *v1.VirtualMachineInstanceSpec
			if rs.Spec.Template != nil {
				effective = rs.Spec.Template.Spec.DeepCopy()
				if err := defaults.Spec(effective, cluster()); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, ReplicaSet(rs, effective, cluster()), c.field)
		})
	}
}
