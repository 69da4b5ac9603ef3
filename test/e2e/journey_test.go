//go:build e2e

package e2e

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMainJourney is what a new user does in the first ten minutes. If it fails, nothing else matters.
func TestMainJourney(t *testing.T) {
	j := start(t)
	if out := j.platform("status"); !strings.Contains(out, "healthy") {
		t.Fatalf("status says\n%s", out)
	}
	j.kubectlIn(j.demo("web", "--run-strategy", "Halted"), "apply", "-f", "-")
	j.virtctl("start", "web", "--wait", "--timeout", "60s")
	j.virtctl("create", "vm", "--name", "web2", "--memory", "128Mi", "--volume-containerdisk", "src:localhost/virtctl/demo:"+shared.Tag,
		"--apply", "--start", "--wait")
	list := j.virtctl("get", "vms", "-o", "wide")
	for _, want := range []string{"web", "web2", "Running", "node0"} {
		if !strings.Contains(list, want) {
			t.Errorf("get vms -o wide does not show %q:\n%s", want, list)
		}
	}
	j.awaitConsole("web", "Welcome to the demo guest")
	if out := j.pipe("\nroot\nuname\n", "console", "web", "--timeout", "20s"); !strings.Contains(out, "Linux") {
		t.Errorf("a piped console does not answer uname:\n%s", out)
	}
	j.screenshot("web")
	j.virtctl("pause", "vm", "web")
	j.kubectl("wait", "vm/web", "--for=jsonpath={.status.printableStatus}=Paused", "--timeout=30s")
	j.virtctl("unpause", "vm", "web")
	j.virtctl("stop", "web", "--wait")
	j.want("status after stop", j.kubectl("get", "vm", "web", "-o", "jsonpath={.status.printableStatus}"), "Stopped")
	j.virtctl("restart", "web2", "--wait")
	j.virtctl("delete", "web", "web2", "--wait")
	if left := j.kubectl("get", "vm,vmi,pods", "-o", "name"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func (j *journey) screenshot(name string) {
	j.Helper()
	file := filepath.Join(j.TempDir(), "screen.png")
	j.virtctl("vnc", "screenshot", name, "-f", file)
	data, err := os.ReadFile(file)
	if err != nil {
		j.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		j.Fatalf("the screenshot is no PNG: %v", err)
	}
	if picture.Bounds().Dx() < 300 {
		j.Errorf("the screenshot is %v", picture.Bounds())
	}
}

// TestInstallAgainChangesNothing: running the installer twice must not restart anything.
func TestInstallAgainChangesNothing(t *testing.T) {
	j := start(t)
	// What an administrator asks before the first installation holds after it as well; a guest really ran, or could not, on every node.
	checks := j.platform("check", "--pre")
	for _, want := range []string{"kubernetes", "permissions", "virtualization on node01", "virtualization on node02", "storage"} {
		if !strings.Contains(checks, want) {
			t.Errorf("check --pre does not tell about %q:\n%s", want, checks)
		}
	}
	before := j.kubectl("get", "pods", "-n", "kubevirt", "-o", "jsonpath={.items[*].metadata.uid}")
	if out := j.platform("install"); !strings.Contains(out, "unchanged") {
		t.Errorf("the second installation says %q", out)
	}
	j.want("the platform's pods", j.kubectl("get", "pods", "-n", "kubevirt", "-o", "jsonpath={.items[*].metadata.uid}"), before)
}

// TestRestrictedNamespace: VMs need no privilege at all.
func TestRestrictedNamespace(t *testing.T) {
	j := start(t, "pod-security.kubernetes.io/enforce=restricted")
	j.boot("plain")
	pod := j.kubectl("get", "pods", "-l", "kubevirt.io=virt-launcher", "-o", "jsonpath={.items[0].status.podIP}")
	if pod == "" {
		t.Fatal("the launcher has no address")
	}
}
