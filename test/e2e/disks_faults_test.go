//go:build e2e

package e2e

import (
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
