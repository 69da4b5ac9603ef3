//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStorageThatRefuses: what the storage will not do is said where the user looks, and done in another way where there is one.
func TestStorageThatRefuses(t *testing.T) {
	j := startOnArray(t, refusing)
	profile := func(patch string) {
		j.kubectl("patch", "storageprofile", refusing, "--type=merge", "-p", `{"spec":`+patch+`}`)
	}
	t.Cleanup(func() {
		profile(`{"cloneStrategy":null,"snapshotClass":null}`)
		if r := command(context.Background(), "", "kubectl", "apply", "-f", filepath.Join(shared.Root, "test/csi/deploy.yaml")); r.Code != 0 {
			t.Error(r.Stderr)
		}
	})
	golden := claimIn(j.namespace, "golden")

	j.kubectlIn(cloneOf("small", refusing, golden, "10Mi"), "apply", "-f", "-")
	j.says("small", "is smaller than the source's")

	// The driver will not clone: the disk is copied, and the reason kept.
	j.kubectlIn(cloneOf("unwanted", refusing, golden, ""), "apply", "-f", "-")
	j.ready("unwanted")
	j.clonedBy("unwanted", "copy")
	j.copiedFor("unwanted", "the array is out of clones")

	profile(`{"cloneStrategy":"snapshot","snapshotClass":"without-room"}`)
	j.kubectl("wait", "storageprofile/"+refusing, "--for=jsonpath={.status.snapshotClass}=without-room", "--timeout=30s")
	j.kubectlIn(cloneOf("roomless", refusing, golden, ""), "apply", "-f", "-")
	j.says("roomless", "the array has no room for snapshots")
	j.kubectl("delete", "dv", "roomless", "--timeout=60s")
	j.nothingTemporary()

	j.kubectl("delete", "volumesnapshotclasses", "--all")
	j.kubectl("wait", "storageprofile/"+bySnapshot, "--for=jsonpath={.status.cloneStrategy}=copy", "--timeout=30s")
	j.kubectlIn(cloneOf("classless", refusing, golden, ""), "apply", "-f", "-")
	j.ready("classless")
	j.clonedBy("classless", "copy")
	j.copiedFor("classless", "VolumeSnapshotClass")
}

// copiedFor checks what a claim says that was copied and not cloned.
func (j *journey) copiedFor(name, why string) {
	j.Helper()
	if said := j.kubectl("get", "pvc", name, "-o", `jsonpath={.metadata.annotations.cdi\.kubevirt\.io/cloneFallbackReason}`); !strings.Contains(said, why) {
		j.Errorf("%s was copied because of %q", name, said)
	}
}

// TestSourceInUse: a disk that somebody writes is not cloned under their hands, and cloned when they are done.
func TestSourceInUse(t *testing.T) {
	j := startOnArray(t, bySnapshot)
	j.kubectlIn(`apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: writer
    image: localhost/virtctl/csi:test
    imagePullPolicy: Never
    command: [csi-directories, -node=none, -socket=/data/unused.sock, -data=/data/unused]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: golden}}]
`, "apply", "-f", "-")
	j.kubectl("wait", "pod/writer", "--for=condition=Ready", "--timeout=60s")
	j.kubectlIn(cloneOf("later", bySnapshot, claimIn(j.namespace, "golden"), ""), "apply", "-f", "-")
	j.says("later", fmt.Sprintf("pod %s/writer using PersistentVolumeClaim golden", j.namespace))
	j.want("snapshots of a disk in use", j.kubectl("get", "volumesnapshots", "-o", "name"), "")
	j.kubectl("delete", "pod", "writer")
	j.ready("later")
	j.clonedBy("later", "snapshot")
}

// says waits until a DataVolume's conditions tell why there is no disk yet. describe tells it too.
func (j *journey) says(name, why string) {
	j.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	watch := shared.Program(ctx, "kubectl", "-n", j.namespace, "get", "dv", name, "--watch", "-o", `jsonpath={.status.conditions[*].message}{"\n"}`)
	out, err := watch.StdoutPipe()
	if err != nil {
		j.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		j.Fatal(err)
	}
	said := ""
	for lines := bufio.NewScanner(out); !strings.Contains(said, why) && lines.Scan(); {
		said = lines.Text()
	}
	cancel()
	_ = watch.Wait()
	if !strings.Contains(said, why) {
		j.Errorf("%s says %q, and not %q", name, said, why)
	}
	if out := j.virtctl("describe", "dv", name); !strings.Contains(out, why) {
		j.Errorf("describe dv %s does not say %q:\n%s", name, why, out)
	}
}
