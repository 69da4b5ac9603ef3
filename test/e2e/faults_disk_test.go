//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"virtctl/internal/images"
)

// brokenDisk gives the nodes a container disk with these files and returns its name.
func (j *journey) brokenDisk(name string, files ...images.File) string {
	j.Helper()
	dir := j.TempDir()
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	layer, err := images.PackLayer(filepath.Join(dir, "layer"), files, images.Gzip, made)
	if err != nil {
		j.Fatal(err)
	}
	ref := "localhost/virtctl-e2e/" + name + ":1"
	tar := filepath.Join(dir, "image.tar")
	if _, err := images.Build(images.Spec{Refs: []string{ref}, Layers: []*images.Layer{layer}, Created: made, Output: tar}); err != nil {
		j.Fatal(err)
	}
	j.kube("images", "load", tar)
	return ref
}

// diskFile is a file in the directory where a container disk has its one file.
func diskFile(name string, data []byte) images.File {
	return images.File{Path: "disk/" + name, Mode: 0o444, UID: 107, GID: 107, Data: data}
}

func (j *journey) qcow2(args ...string) []byte {
	j.Helper()
	path := filepath.Join(j.TempDir(), "made.qcow2")
	args = append([]string{"create", "-q", "-f", "qcow2"}, args...)
	for i, arg := range args {
		if arg == "FILE" {
			args[i] = path
		}
	}
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		j.Fatalf("qemu-img: %v\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		j.Fatal(err)
	}
	return data
}

// TestBrokenContainerDisks: an image that is no disk is no reason to crash: the machine says what is wrong with it.
func TestBrokenContainerDisks(t *testing.T) {
	j := start(t)
	whole := j.qcow2("FILE", "64M")
	corrupt := append(append([]byte{}, whole[:8]...), []byte(strings.Repeat("\xff", 504))...)
	disk := images.Dir("disk", 0o755, 107, 107)
	broken := map[string]struct{ image, says string }{
		"empty":   {j.brokenDisk("empty", images.Dir("other", 0o755, 107, 107)), "/disk"},
		"corrupt": {j.brokenDisk("corrupt", disk, diskFile("a.qcow2", corrupt)), "qcow2"},
		"backed":  {j.brokenDisk("backed", disk, diskFile("a.qcow2", j.qcow2("-u", "-b", "/etc/passwd", "-F", "raw", "FILE", "64M"))), "backing"},
		"toobig":  {j.brokenDisk("toobig", disk, diskFile("a.qcow2", j.qcow2("FILE", "65T"))), "more than the limit"},
		"two":     {j.brokenDisk("two", disk, diskFile("a.qcow2", whole), diskFile("b.qcow2", whole)), "/disk"},
		"absent":  {"localhost/virtctl-e2e/absent:1", "absent:1"},
	}
	for name, b := range broken {
		j.kubectlIn(j.virtctl("create", "vm", "--name", name, "--memory", "64Mi", "--volume-containerdisk", "src:"+b.image), "apply", "-f", "-")
	}
	for name, b := range broken {
		r := j.kubectlTry("", "wait", "vmi/"+name, `--for=jsonpath={.status.conditions[?(@.type=="Synchronized")].status}=False`, "--timeout=90s")
		why := j.kubectl("get", "vmi", name, "-o", `jsonpath={.status.conditions[?(@.type=="Synchronized")].message}`)
		if r.Code != 0 || !strings.Contains(why, b.says) {
			t.Errorf("%s: the condition does not say %q but %q", name, b.says, why)
		}
		if page := j.virtctl("describe", name); !strings.Contains(page, why) {
			t.Errorf("%s: describe does not say %q:\n%s", name, why, page)
		}
	}
	pods := j.kubectl("get", "pods", "-l", "kubevirt.io=virt-launcher", "-o", "name")
	if n := len(strings.Fields(pods)); n > len(broken) {
		t.Errorf("%d pods for %d machines: one crash-loops\n%s", n, len(broken), pods)
	}
}

// TestWhatIsMissingIsAwaited: a machine whose claim or Secret does not exist yet says so, and starts when it appears.
func TestWhatIsMissingIsAwaited(t *testing.T) {
	j := start(t)
	j.kubectlIn(j.virtctl("create", "vm", "--name", "claimless", "--memory", "64Mi", "--volume-pvc", "src:late"), "apply", "-f", "-")
	secret := strings.Replace(j.demo("keyless"), "      volumes:\n", "      volumes:\n      - name: keys\n        secret: {secretName: late}\n", 1)
	j.kubectlIn(secret, "apply", "-f", "-")
	j.awaitStatus("claimless", "ErrorPvcNotFound")
	for name, says := range map[string]string{"claimless": "late", "keyless": "late"} {
		r := j.kubectlTry("", "wait", "vmi/"+name, `--for=jsonpath={.status.conditions[?(@.type=="Synchronized")].status}=False`, "--timeout=60s")
		page := j.virtctl("describe", name)
		if r.Code != 0 || !strings.Contains(page, says) {
			t.Errorf("%s: describe does not say what is missing:\n%s", name, page)
		}
	}
	j.kubectl("create", "secret", "generic", "late", "--from-literal=key=value")
	j.kubectlIn(claim("late"), "apply", "-f", "-")
	j.virtctl("wait", "claimless", "keyless", "--for", "running", "--timeout", "150s")
}

func claim(name string) string {
	return `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: ` + name + `},
 spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}`
}
