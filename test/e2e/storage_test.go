//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The storage of test/csi: what its classes make of a clone.
const (
	byDriver   = "cloning"  // the driver clones, for whoever uses the volume first
	bySnapshot = "snapping" // a snapshot is made and restored, at once
	refusing   = "refusing" // the driver ought to clone and does not
)

// storageThatClones gives the cluster, once, a CSI driver with the programs of Kubernetes around it. It goes with the cluster.
var storageThatClones = sync.OnceValue(func() error {
	if err := shared.Kube("images", "load", "--state-dir", shared.State, "--node", "node01", filepath.Join(shared.Root, "out/test/csi.tar")); err != nil {
		return fmt.Errorf("run `make csi`: %w", err)
	}
	for _, args := range [][]string{
		{"apply", "--server-side", "-f", filepath.Join(shared.Root, "out/test/snapshots.yaml")},
		{"wait", "--for=condition=Established", "crd/volumesnapshots.snapshot.storage.k8s.io", "crd/volumesnapshotclasses.snapshot.storage.k8s.io", "--timeout=30s"},
		{"apply", "-f", filepath.Join(shared.Root, "test/csi/deploy.yaml")},
		{"-n", "csi", "rollout", "status", "deploy/csi", "--timeout=90s"},
		{"wait", "csinode/node01", "--for=jsonpath={.spec.drivers[0].name}=directories.csi.virtctl.io", "--timeout=30s"},
		{"wait", "storageprofile/" + bySnapshot, "--for=jsonpath={.status.cloneStrategy}=snapshot", "--timeout=30s"},
	} {
		if r := command(context.Background(), "", "kubectl", args...); r.Code != 0 {
			return fmt.Errorf("kubectl %s: %s", strings.Join(args, " "), r.Stderr)
		}
	}
	return nil
})

// startOnArray is start on storage that clones, with the guest's disk as the DataVolume golden; more are flags of its upload.
func startOnArray(t *testing.T, class string, more ...string) *journey {
	t.Helper()
	if err := storageThatClones(); err != nil {
		t.Fatal(err)
	}
	j := start(t)
	t.Cleanup(func() {
		if t.Failed() {
			j.reportStorage()
		}
	})
	j.virtctl(append([]string{"image-upload", "dv", "golden", "--image-path", j.guestDisk(), "--storage-class", class}, more...)...)
	return j
}

func (j *journey) reportStorage() {
	for _, args := range [][]string{
		{"get", "dv,pvc,volumesnapshots,volumesnapshotcontents", "-n", j.namespace, "-o", "yaml"},
		{"get", "pv,storageprofiles", "-o", "wide"},
		{"logs", "-n", "kubevirt", "deploy/cdi-deployment", "--tail", "30"},
		{"logs", "-n", "csi", "deploy/csi", "--all-containers", "--tail", "10", "--prefix"},
	} {
		r := command(context.Background(), "", "kubectl", args...)
		j.Logf("kubectl %s\n%s%s", strings.Join(args, " "), r.Stdout, r.Stderr)
	}
}

// cloneOf is a DataVolume of a class that clones; its size is the source's unless one is given.
func cloneOf(name, class, source, size string) string {
	resources := ""
	if size != "" {
		resources = ", resources: {requests: {storage: " + size + "}}"
	}
	return fmt.Sprintf(`apiVersion: cdi.kubevirt.io/v1beta1
kind: DataVolume
metadata: {name: %s}
spec:
  source%s
  storage: {storageClassName: %s%s}
`, name, source, class, resources)
}

func claimIn(namespace, name string) string {
	return fmt.Sprintf(": {pvc: {namespace: %s, name: %s}}", namespace, name)
}

func snapshotIn(namespace, name string) string {
	return fmt.Sprintf(": {snapshot: {namespace: %s, name: %s}}", namespace, name)
}

// clonedBy checks who made a clone: what the DataVolume and its claim say, and that no pod of ours moved a byte unless it was a copy.
func (j *journey) clonedBy(name, way string) {
	j.Helper()
	for _, kind := range []string{"dv", "pvc"} {
		j.want("how "+kind+"/"+name+" says it was cloned", j.kubectl("get", kind, name, "-o", `jsonpath={.metadata.annotations.cdi\.kubevirt\.io/cloneType}`), way)
	}
	// Events outlive the pods. That of the uploaded disk shows that they can be seen.
	pods := j.kubectl("get", "events", "-o", `jsonpath={.items[?(@.involvedObject.kind=="Pod")].involvedObject.name}`)
	if copied := strings.Contains(pods, "cdi-upload-"+name); copied != (way == "copy") {
		j.Errorf("clone %s by %s had these pods: %s", name, way, pods)
	}
}

// nothingTemporary waits until what was made on the way to a clone is gone.
func (j *journey) nothingTemporary() {
	j.Helper()
	for _, kind := range []string{"volumesnapshots", "pvc"} {
		names := strings.Fields(j.kubectl("get", kind, "-o", "jsonpath={.items[*].metadata.name}"))
		for _, name := range names {
			if strings.HasPrefix(name, "tmp-") {
				j.kubectl("wait", kind+"/"+name, "--for=delete", "--timeout=30s")
			}
		}
	}
}

// snap makes a snapshot of a claim and waits for it.
func (j *journey) snap(name, claim string) {
	j.Helper()
	j.kubectlIn(fmt.Sprintf(`apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: %s}
spec: {volumeSnapshotClassName: whole, source: {persistentVolumeClaimName: %s}}
`, name, claim), "apply", "-f", "-")
	j.kubectl("wait", "volumesnapshot/"+name, "--for=jsonpath={.status.readyToUse}=true", "--timeout=60s")
}
