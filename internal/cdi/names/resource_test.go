package names

import (
	"strings"
	"testing"
)

// Clients look up the upload server's pod by the claim's name: these forms are the contract.
func TestResource(t *testing.T) {
	long := strings.Repeat("a", 250)
	for got, want := range map[string]string{
		ImporterPod("root"):                  "importer-root",
		UploadPod("root"):                    "cdi-upload-root",
		UploadService("my.disk"):             "cdi-upload-my-disk",
		UploadURL("root", "lab", PathUpload): "https://cdi-upload-root.lab.svc:8443/v1beta1/upload",
		Label("cdi-upload-" + long[:60]):     "cdi-upload-" + long[:39] + "-" + hash("cdi-upload-"+long[:60]) + "-cdi",
		UploadPod(long):                      "cdi-upload-" + hash("cdi-upload-"+long),
		Resource(long, "scratch"):            long[:253-10-7] + "-" + hash(long) + "-scratch",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, name := range []string{UploadService(long), Label(strings.Repeat("b.", 100))} {
		if len(name) > 63 {
			t.Errorf("%s has %d characters", name, len(name))
		}
	}
}
