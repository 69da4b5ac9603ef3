//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"

	"virtctl/test/cluster"
)

// TestUploadOutlivesItsNode: a power cut of the node with the upload's pod, in the middle, ends in the same disk.
func TestUploadOutlivesItsNode(t *testing.T) {
	j := start(t)
	// A dead node has not kept what was not synced yet; on a fast machine that is everything.
	j.goesOn(uploadSize, func(*cluster.Wire, func()) {
		node := j.kubectl("get", "pod", "cdi-upload-disk", "-o", "jsonpath={.spec.nodeName}")
		j.kube("node", "kill", node)
		j.kube("node", "start", node)
	})
}

// TestUploadOutlivesCertificates: new certificates for every part of the way, in the middle of an upload, are not felt.
func TestUploadOutlivesCertificates(t *testing.T) {
	j := start(t)
	secrets := []string{"cdi-apiserver-server-cert", "cdi-uploadserver-client-cert"}
	j.goesOn(again, func(w *cluster.Wire, _ func()) {
		var gone []func()
		for _, secret := range secrets {
			gone = append(gone, (&journey{j.T, "kubevirt"}).going("secret/"+secret))
		}
		j.kubectl(append([]string{"delete", "secret", "-n", "kubevirt"}, secrets...)...)
		for _, wait := range gone {
			wait()
		}
		for _, secret := range secrets {
			j.kubectl("wait", "-n", "kubevirt", "secret/"+secret, "--for=create", "--timeout=60s")
		}
		w.Cut()
	})
}

// TestImporterOutOfMemory: an importer that the kernel ends says so in its volume, and with enough memory the same manifest works.
func TestImporterOutOfMemory(t *testing.T) {
	j := start(t)
	path, _ := j.randomFile(64 << 20)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	url := j.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }))
	change := func(to string) {
		j.kubectl("patch", "cdi", "cdi", "--type", "merge", "-p", `{"spec":{"config":{"podResourceRequirements":`+to+`}}}`)
	}
	const limit = `{"requests":{"memory":"8Mi","cpu":"10m"},"limits":{"memory":"8Mi","cpu":"1"}}`
	t.Cleanup(func() { change("null") })
	change(limit)
	j.kubectl("wait", "cdiconfig/config", "--for", "jsonpath={.status.defaultPodResourceRequirements.limits.memory}=8Mi", "--timeout", "60s")
	volume := `{"apiVersion":"cdi.kubevirt.io/v1beta1","kind":"DataVolume","metadata":{"name":"disk","annotations":{
"cdi.kubevirt.io/storage.bind.immediate.requested":"true"}},"spec":{"source":{"http":{"url":"` + url + `/disk.img"}},
"storage":{"resources":{"requests":{"storage":"128Mi"}}}}}`
	j.kubectlIn(volume, "apply", "-f", "-")
	j.kubectl("wait", "dv/disk", "--for", `jsonpath={.status.conditions[?(@.type=="Running")].reason}=OOMKilled`, "--timeout", "120s")

	change("null")
	j.kubectl("wait", "cdiconfig/config", "--for", "jsonpath={.status.defaultPodResourceRequirements.limits.memory}=600M", "--timeout", "60s")
	j.virtctl("delete", "dv", "disk", "--wait")
	j.kubectlIn(volume, "apply", "-f", "-")
	j.kubectl("wait", "dv/disk", "--for", "jsonpath={.status.phase}=Succeeded", "--timeout", "120s")
	j.noWorkers()
}

// TestFullDisk: a claim that has no room left takes no image, says so, and keeps what it has; with room again, the same command does.
func TestFullDisk(t *testing.T) {
	j := start(t)
	j.kubectlIn(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"disk"},"spec":{"accessModes":["ReadWriteOnce"],
"resources":{"requests":{"storage":"128Mi"}}}}`, "apply", "-f", "-")
	j.onClaim("fill", "head -c 100000000 /dev/zero | tr '\\0' x > /claim/mine && sync && sha256sum /claim/mine > /claim/sum")
	path, digest := j.randomFile(64 << 20)
	upload := []string{"image-upload", "pvc", "disk", "--image-path", path, "--no-create"}
	j.refused(9, "larger than the reported available storage", upload...)
	j.onClaim("look", "sha256sum -c /claim/sum && test ! -e /claim/disk.img && rm /claim/mine /claim/sum")
	j.virtctl(upload...)
	j.want("checksum of what arrived", j.kubectl("get", "pvc", "disk", "-o", `jsonpath={.metadata.annotations.virtctl\.io/content-digest}`), digest)
	j.noWorkers()
}

// onClaim runs a shell command in a pod with the claim "disk".
func (j *journey) onClaim(name, command string) {
	j.Helper()
	pod, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name}, "spec": map[string]any{
			"securityContext": map[string]any{"fsGroup": 107}, "restartPolicy": "Never", "containers": []any{map[string]any{
				"name": "c", "image": "localhost/virtctl/virt-launcher:" + shared.Tag, "imagePullPolicy": "Never",
				"command": []string{"/bin/sh", "-ec", command}, "volumeMounts": []any{map[string]any{"name": "claim", "mountPath": "/claim"}},
			}},
			"volumes": []any{map[string]any{"name": "claim", "persistentVolumeClaim": map[string]any{"claimName": "disk"}}},
		},
	})
	if err != nil {
		j.Fatal(err)
	}
	j.kubectlIn(string(pod), "apply", "-f", "-")
	j.kubectl("wait", "pod/"+name, "--for", "jsonpath={.status.phase}=Succeeded", "--timeout", "60s")
	j.kubectl("delete", "pod", name)
}
