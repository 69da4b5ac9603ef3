//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestANodeAgentIsHeldToItsNode: with the token of one node's virt-handler, the API server itself refuses what concerns others.
func TestANodeAgentIsHeldToItsNode(t *testing.T) {
	j := start(t)
	j.boot("victim")
	there := j.kubectl("get", "vmi", "victim", "-o", "jsonpath={.status.nodeName}")
	here, token := j.handlerToken(there)
	config := j.kubeconfigOf(token)
	as := func(args ...string) []string { return append([]string{"--kubeconfig", config}, args...) }

	j.kubectl(as("annotate", "node", here, "kubevirt.io/e2e=mine", "--overwrite")...)
	j.kubectl(as("annotate", "node", here, "kubevirt.io/e2e-")...)
	for what, refused := range map[string]struct {
		message string
		args    []string
	}{
		"another node":            {"only the node it runs on", []string{"annotate", "node", there, "kubevirt.io/e2e=stolen"}},
		"a label of someone else": {"only kubevirt.io labels", []string{"label", "node", here, "node-role.kubernetes.io/control-plane=x", "--overwrite"}},
		"its node's spec":         {"spec", []string{"patch", "node", here, "--type=merge", "-p", `{"spec":{"unschedulable":true}}`}},
		"another node's machine":  {"own node", []string{"patch", "vmi", "victim", "--type=merge", "-p", `{"status":{"phase":"Failed"}}`}},
		"secrets":                 {"forbidden", []string{"get", "secrets", "-n", "kubevirt"}},
	} {
		if r := j.kubectlTry("", as(refused.args...)...); r.Code == 0 || !strings.Contains(r.Stderr, refused.message) {
			t.Errorf("%s: exit code %d, want a refusal with %q\n%s%s", what, r.Code, refused.message, r.Stdout, r.Stderr)
		}
	}
	for what, lease := range map[string]string{"another node's lease": "virt-handler-" + there, "the lease of who leads": "virt-controller"} {
		object := fmt.Sprintf(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"kubevirt","name":%q},"spec":{"holderIdentity":%q}}`, lease, here)
		message := "only the lease of the node it runs on"
		if r := j.kubectlTry(object, as("create", "-n", "kubevirt", "-f", "-")...); r.Code == 0 || !strings.Contains(r.Stderr, message) {
			t.Errorf("%s: exit code %d, want a refusal with %q\n%s%s", what, r.Code, message, r.Stdout, r.Stderr)
		}
	}
	j.want("phase of the machine", j.kubectl("get", "vmi", "victim", "-o", "jsonpath={.status.phase}"), "Running")
}

// handlerToken is a token as kubelet gives it to the virt-handler of a node other than the named one, and that node's name.
func (j *journey) handlerToken(not string) (node, token string) {
	j.Helper()
	pods := j.kubectl("get", "pods", "-n", "kubevirt", "-l", "kubevirt.io=virt-handler",
		"-o", `jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name} {.metadata.uid}{"\n"}{end}`)
	for line := range strings.Lines(pods) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] != not {
			return f[0], j.kubectl("create", "token", "kubevirt-handler", "-n", "kubevirt",
				"--bound-object-kind", "Pod", "--bound-object-name", f[1], "--bound-object-uid", f[2])
		}
	}
	j.Fatalf("no virt-handler on a node other than %s:\n%s", not, pods)
	return "", ""
}

// kubeconfigOf is a kubeconfig that has this token and no certificate: a certificate would win.
func (j *journey) kubeconfigOf(token string) string {
	j.Helper()
	admin, err := os.ReadFile(shared.Kubeconfig)
	if err != nil {
		j.Fatal(err)
	}
	path := filepath.Join(j.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, admin, 0o600); err != nil {
		j.Fatal(err)
	}
	j.kubectl("config", "set-credentials", "bearer", "--token", token, "--kubeconfig", path)
	j.kubectl("config", "set-context", "--current", "--user", "bearer", "--kubeconfig", path)
	return path
}
