//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// sized makes an instance type of the namespace.
func (j *journey) sized(name, cpus, memory string) {
	j.Helper()
	j.kubectlIn(j.virtctl("create", "instancetype", "--namespaced", "--name", name, "--cpu", cpus, "--memory", memory), "create", "-f", "-")
}

// halted is the manifest of a machine with no size of its own, which does not run yet.
func (j *journey) halted(name string, args ...string) string {
	j.Helper()
	return j.virtctl(append([]string{"create", "vm", "--name", name, "--run-strategy", "Halted"}, args...)...)
}

// TestInstancetypes: a machine has its size from an instance type and its hardware from a preference. It keeps them when somebody replaces
// the type, takes another one when told, and takes them along when it moves.
func TestInstancetypes(t *testing.T) {
	j := start(t)
	for what, name := range map[string]string{"clusterinstancetypes": "u1.medium", "clusterpreferences": "windows.11"} {
		if listed := j.virtctl("get", what); !strings.Contains(listed, name) {
			t.Errorf("the platform's %s have no %s:\n%s", what, name, listed)
		}
	}
	j.sized("tiny", "2", "128Mi")
	j.sized("bigger", "1", "192Mi")
	j.kubectlIn(`{"apiVersion":"instancetype.kubevirt.io/v1beta1","kind":"VirtualMachinePreference","metadata":{"name":"cores"},
"spec":{"cpu":{"preferredCPUTopology":"cores"},"devices":{"preferredDiskBus":"sata","preferredInterfaceModel":"e1000e"}}}`, "create", "-f", "-")
	j.kubectlIn(j.halted("web", "--instancetype", "virtualmachineinstancetype/tiny", "--preference", "virtualmachinepreference/cores",
		"--volume-containerdisk", "src:localhost/virtctl/demo:"+shared.Tag, "--network", "pod"), "create", "-f", "-")
	runs := func(how, memory string) {
		t.Helper()
		j.virtctl(how, "web", "--wait", "--timeout", "60s")
		domain := j.kubectl("get", "vmi", "web", "-o", "jsonpath={.spec.domain.memory.guest} {.spec.domain.cpu.cores} {.spec.domain.cpu.sockets} "+
			"{.spec.domain.devices.disks[0].disk.bus} {.spec.domain.devices.interfaces[0].model}")
		j.want("the machine after "+how, domain, memory+" sata e1000e")
	}
	runs("start", "128Mi 2 1")
	revision := j.kubectl("get", "vm", "web", "-o", "jsonpath={.status.instancetypeRef.controllerRevisionRef.name}")
	j.want("the kept type's owner", j.kubectl("get", "controllerrevision", revision, "-o", "jsonpath={.metadata.ownerReferences[0].name}"), "web")
	j.awaitConsole("web", "Welcome to the demo guest")
	j.virtctl("migrate", "web", "--wait", "--timeout", "90s")

	j.kubectl("delete", "virtualmachineinstancetype", "tiny")
	j.sized("tiny", "1", "256Mi")
	runs("restart", "128Mi 2 1")
	expanded := j.virtctl("expand", "--vm", "web", "-o", "json")
	var vm struct {
		Spec struct {
			Instancetype any
			Template     struct {
				Spec struct {
					Domain struct{ Memory struct{ Guest string } }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(expanded), &vm); err != nil || vm.Spec.Instancetype != nil || vm.Spec.Template.Spec.Domain.Memory.Guest != "128Mi" {
		t.Errorf("expanded to (%v)\n%s", err, expanded)
	}
	j.virtctl("stop", "web", "--wait")
	j.kubectl("patch", "vm", "web", "--type", "merge", "-p", `{"spec":{"instancetype":{"name":"bigger","revisionName":null}}}`)
	runs("start", "192Mi 1 1")
}

// TestInstancetypesAreInferred: a claim, a DataVolume or a DataSource says with labels which instance type and preference its guest wants.
func TestInstancetypesAreInferred(t *testing.T) {
	j := start(t)
	j.sized("tiny", "1", "128Mi")
	j.kubectlIn(j.virtctl("create", "preference", "--namespaced", "--name", "plain"), "create", "-f", "-")
	const group = "instancetype.kubevirt.io/default-"
	labels := []string{
		group + "instancetype=tiny", group + "instancetype-kind=VirtualMachineInstancetype",
		group + "preference=plain", group + "preference-kind=VirtualMachinePreference",
	}
	j.claim("golden", "ReadWriteMany", "shared", "16Mi")
	j.kubectlIn(fmt.Sprintf(`{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"cdi.kubevirt.io/v1beta1","kind":"DataSource","metadata":{"name":"golden"},"spec":{"source":{"pvc":{"name":"golden","namespace":%q}}}},
{"apiVersion":"cdi.kubevirt.io/v1beta1","kind":"DataVolume","metadata":{"name":"golden-dv"},"spec":{"source":{"blank":{}},"storage":{"resources":{"requests":{"storage":"16Mi"}}}}}]}`,
		j.namespace), "create", "-f", "-")
	inferred := func(name, manifest string) {
		t.Helper()
		j.kubectlIn(manifest, "create", "-f", "-")
		got := j.kubectl("get", "vm", name, "-o", "jsonpath={.spec.instancetype.kind}/{.spec.instancetype.name} {.spec.preference.kind}/{.spec.preference.name}")
		j.want(name+"'s type", strings.ToLower(got), "virtualmachineinstancetype/tiny virtualmachinepreference/plain")
	}
	infer := []string{"--infer-instancetype", "--infer-preference"}
	fromClaim := j.halted("claim", append(infer, "--volume-pvc", "src:golden")...)
	if r := j.kubectlTry(fromClaim, "create", "-f", "-"); r.Code == 0 || !strings.Contains(r.Stderr, group+"instancetype") {
		t.Errorf("a claim without labels: %+v", r)
	}
	for _, object := range []string{"pvc/golden", "datasource/golden", "datavolume/golden-dv"} {
		j.kubectl(append([]string{"label", object}, labels...)...)
	}
	inferred("claim", fromClaim)
	inferred("source", j.halted("source", append(infer, "--volume-import", "type:ds,src:golden")...))
	inferred("volume", `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"volume"},"spec":{"runStrategy":"Halted",
"instancetype":{"inferFromVolume":"root"},"preference":{"inferFromVolume":"root"},
"template":{"spec":{"domain":{"devices":{}},"volumes":[{"name":"root","dataVolume":{"name":"golden-dv"}}]}}}}`)

	r := j.kubectlTry(`{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"both"},"spec":{"runStrategy":"Halted",
"instancetype":{"name":"tiny","kind":"VirtualMachineInstancetype"},"template":{"spec":{"domain":{"memory":{"guest":"1Gi"},"devices":{}}}}}}`, "create", "-f", "-")
	if r.Code == 0 || !strings.Contains(r.Stderr, "spec.template.spec.domain.memory") {
		t.Errorf("a size of its own beside an instance type: %+v", r)
	}
}
