//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestDriverClones: where the storage can clone by itself no byte passes through a pod, and who asks for a larger disk gets it. The class
// waits for a first consumer, of which the user hears nothing.
func TestDriverClones(t *testing.T) {
	j := startOnArray(t, byDriver)
	out := j.virtctl("storage", "check", "-o", `jsonpath={.classes[?(@.name=="`+byDriver+`")]}`)
	for _, want := range []string{`"clone":"csi-clone"`, `"expandable":true`, `"liveMigration":false`} {
		if !strings.Contains(out, want) {
			t.Errorf("storage check says of the class %s, without %s", out, want)
		}
	}
	j.kubectlIn(cloneOf("quick", byDriver, claimIn(j.namespace, "golden"), "200Mi"), "apply", "-f", "-")
	j.bootFrom("quick", "quick")
	j.ready("quick")
	j.clonedBy("quick", "csi-clone")
	size := j.kubectl("get", "pvc", "quick", "-o", "jsonpath={.status.capacity.storage}")
	j.want("size of the clone", size, "212Mi")
}

// TestBlockClones: a device is cloned as a file is, by its driver or by a copy, and a copy may become a file.
func TestBlockClones(t *testing.T) {
	j := startOnArray(t, byDriver, "--volume-mode", "block", "--access-mode", "ReadWriteOnce")
	clones := []struct{ name, class, mode, way string }{
		{"quick", byDriver, "Block", "csi-clone"},
		{"copied", "local", "Block", "copy"},
		{"filed", "local", "Filesystem", "copy"},
	}
	for _, c := range clones {
		j.kubectlIn(cloneOf(c.name, c.class+", accessModes: [ReadWriteOnce], volumeMode: "+c.mode, claimIn(j.namespace, "golden"), ""), "apply", "-f", "-")
	}
	for _, c := range clones {
		j.bootFrom(c.name, c.name)
		j.ready(c.name)
		j.clonedBy(c.name, c.way)
		j.want("volume mode of "+c.name, j.kubectl("get", "pvc", c.name, "-o", "jsonpath={.spec.volumeMode}"), c.mode)
	}
	j.nothingTemporary()
}

// TestSnapshotClones: where the storage makes snapshots, one is made, restored in another namespace and taken away again.
func TestSnapshotClones(t *testing.T) {
	owner := startOnArray(t, bySnapshot)
	owner.kubectlIn(cloneOf("near", bySnapshot, claimIn(owner.namespace, "golden"), ""), "apply", "-f", "-")
	borrower := owner.neighbour()
	borrower.kubectl("create", "rolebinding", "ann", "--clusterrole=admin", "--user=ann")
	clone := cloneOf("far", bySnapshot, claimIn(owner.namespace, "golden"), "200Mi")
	if r := borrower.kubectlTry(clone, "apply", "-f", "-", "--as=ann"); r.Code == 0 || !strings.Contains(r.Stderr, owner.namespace) {
		t.Errorf("without permission: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	owner.kubectl("create", "rolebinding", "lent", "--clusterrole=cdi.kubevirt.io:clone-sourcer", "--user=ann")
	borrower.kubectlIn(clone, "apply", "-f", "-", "--as=ann")
	owner.ready("near")
	owner.clonedBy("near", "snapshot")
	borrower.ready("far")
	borrower.want("how it was cloned", borrower.kubectl("get", "dv", "far", "-o", `jsonpath={.metadata.annotations.cdi\.kubevirt\.io/cloneType}`), "snapshot")
	borrower.want("size of the clone", borrower.kubectl("get", "pvc", "far", "-o", "jsonpath={.status.capacity.storage}"), "212Mi")
	borrower.want("pods of the clone", borrower.kubectl("get", "events", "-o", `jsonpath={.items[?(@.involvedObject.kind=="Pod")].involvedObject.name}`), "")
	owner.nothingTemporary()
	borrower.bootFrom("far", "far")
}

// TestSnapshotsAsSources: a snapshot is a source as good as a claim, by its name or by a DataSource's, after the claim it was made of is gone.
// Another namespace's is given only to who may have it.
func TestSnapshotsAsSources(t *testing.T) {
	j := startOnArray(t, bySnapshot)
	j.snap("frozen", "golden")
	j.kubectl("delete", "dv", "golden", "--timeout=60s")
	j.kubectlIn(fmt.Sprintf(`apiVersion: cdi.kubevirt.io/v1beta1
kind: DataSource
metadata: {name: latest}
spec: {source: {snapshot: {namespace: %s, name: frozen}}}
`, j.namespace), "apply", "-f", "-")
	j.kubectlIn(cloneOf("direct", bySnapshot, snapshotIn(j.namespace, "frozen"), "200Mi"), "apply", "-f", "-")
	j.kubectlIn(cloneOf("named", bySnapshot, "Ref: {kind: DataSource, name: latest}", ""), "apply", "-f", "-")
	// The default class belongs to another driver: the snapshot is restored where it is, and copied from there.
	j.kubectlIn(cloneOf("elsewhere", "local", snapshotIn(j.namespace, "frozen"), ""), "apply", "-f", "-")
	j.kubectl("wait", "datasource/latest", "--for=condition=Ready", "--timeout=30s")
	j.ready("direct")
	j.want("size of the clone", j.kubectl("get", "pvc", "direct", "-o", "jsonpath={.status.capacity.storage}"), "212Mi")
	j.ready("named")
	j.ready("elsewhere")
	j.clonedBy("direct", "snapshot")
	j.clonedBy("named", "snapshot")
	j.clonedBy("elsewhere", "copy")
	j.nothingTemporary()

	borrower := j.neighbour()
	borrower.kubectl("create", "rolebinding", "ann", "--clusterrole=admin", "--user=ann")
	far := cloneOf("far", bySnapshot, snapshotIn(j.namespace, "frozen"), "")
	if r := borrower.kubectlTry(far, "apply", "-f", "-", "--as=ann"); r.Code == 0 || !strings.Contains(r.Stderr, j.namespace) {
		t.Errorf("without permission: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	j.kubectl("create", "rolebinding", "lent", "--clusterrole=cdi.kubevirt.io:clone-sourcer", "--user=ann")
	borrower.kubectlIn(far, "apply", "-f", "-", "--as=ann")
	borrower.ready("far")
	j.bootFrom("named", "named")
}

// TestBootSourceIsASnapshot: on storage that likes it so, a boot source is kept as a snapshot, from which machines are made; the old one goes.
func TestBootSourceIsASnapshot(t *testing.T) {
	if err := storageThatClones(); err != nil {
		t.Fatal(err)
	}
	j := start(t)
	j.kubectl("patch", "storageprofile", bySnapshot, "--type=merge", "-p", `{"spec":{"dataImportCronSourceFormat":"snapshot"}}`)
	j.kubectl("wait", "storageprofile/"+bySnapshot, "--for=jsonpath={.status.dataImportCronSourceFormat}=snapshot", "--timeout=30s")
	source := j.registry()
	first := source.push("latest", nil)
	j.kubectlIn(fmt.Sprintf(`apiVersion: cdi.kubevirt.io/v1beta1
kind: DataImportCron
metadata: {name: demo}
spec:
  schedule: "0 0 1 1 *"
  managedDataSource: demo
  importsToKeep: 1
  template:
    spec:
      source:
        registry: {url: %q}
      storage: {storageClassName: %s, resources: {requests: {storage: 100Mi}}}
`, source.url("latest"), bySnapshot), "apply", "-f", "-")
	upToDate := func(hex string) string {
		name := "demo-" + hex[:12]
		j.kubectl("wait", "datasource/demo", "--for=jsonpath={.spec.source.snapshot.name}="+name, "--timeout=120s")
		j.kubectl("wait", "datasource/demo", "--for=condition=Ready", "--timeout=60s")
		j.kubectl("wait", "dv,pvc", "--all", "--for=delete", "--timeout=60s")
		return name
	}
	old := upToDate(first.Hex)
	fresh := source.push("latest", map[string]string{"release": "2"})
	j.kubectl("annotate", "dataimportcron/demo", "--overwrite", "cdi.kubevirt.io/storage.import.nextCronTime=2020-01-01T00:00:00Z")
	j.kubectl("wait", "datasource/demo", "--for=jsonpath={.spec.source.snapshot.name}=demo-"+fresh.Hex[:12], "--timeout=120s")
	j.kubectl("wait", "volumesnapshot/"+old, "--for=delete", "--timeout=60s")
	name := upToDate(fresh.Hex)
	j.want("snapshots that are left", j.kubectl("get", "volumesnapshots", "-o", "jsonpath={.items[*].metadata.name}"), name)
	j.kubectlIn(j.virtctl("create", "vm", "--name", "fresh", "--memory", "128Mi", "--run-strategy", "Always",
		"--volume-import", "type:ds,src:demo,name:root", "--termination-grace-period", "20"), "apply", "-f", "-")
	j.virtctl("wait", "fresh", "--for", "running", "--timeout", "120s")
	j.awaitConsole("fresh", "Welcome to the demo guest")
}
