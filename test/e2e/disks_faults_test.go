//go:build e2e

package e2e

import (
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
