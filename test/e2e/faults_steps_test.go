//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"virtctl/test/cluster"
)

// kube runs virt-kube on the tests' cluster; it must succeed.
func (j *journey) kube(args ...string) string {
	j.Helper()
	r := j.kubeTry(args...)
	if r.Code != 0 {
		j.Fatalf("virt-kube %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

func (j *journey) kubeTry(args ...string) cluster.Result {
	ctx, cancel := context.WithTimeout(context.Background(), stepTime)
	defer cancel()
	j.Setenv("VIRT_KUBE_STATE_DIR", shared.State)
	return command(ctx, "", "virt-kube", args...)
}

// processes are the process ids, as the node numbers them, of what runs there with a command line that matches.
func (j *journey) processes(node, pattern string) []string {
	j.Helper()
	r := j.kubeTry("node", "exec", node, "--", "pgrep", "-f", pattern)
	if r.Stderr != "" {
		j.Fatalf("find %q on %s: %s", pattern, node, r.Stderr)
	}
	return strings.Fields(r.Stdout)
}

// killOn kills with signal 9 what runs on a node with a command line that matches, and returns how many those were.
func (j *journey) killOn(node, pattern string) int {
	j.Helper()
	found := j.processes(node, pattern)
	for _, pid := range found {
		j.kube("node", "exec", node, "--", "kill", "-9", pid)
	}
	return len(found)
}

// qemu is the process id of a machine's QEMU on a node.
func (j *journey) qemu(node, name string) string {
	j.Helper()
	found := j.processes(node, fmt.Sprintf("^[^ ]*qemu-system-[^ ]* -name guest=%s_%s,", j.namespace, name))
	if len(found) != 1 {
		j.Fatalf("%d QEMU processes of %s on %s", len(found), name, node)
	}
	return found[0]
}

// launcher is the process id of a machine's launcher on a node: QEMU is its child.
func (j *journey) launcher(node, name string) string {
	j.Helper()
	return strings.TrimSpace(j.kube("node", "exec", node, "--", "ps", "-o", "ppid=", "-p", j.qemu(node, name)))
}

// nodeOf is the node a machine runs on.
func (j *journey) nodeOf(name string) string {
	j.Helper()
	return j.kubectl("get", "vmi", name, "-o", "jsonpath={.status.nodeName}")
}

// awaitField waits until a field of an object has a value.
func (j *journey) awaitField(object, path, value string, timeout time.Duration) {
	j.Helper()
	r := j.kubectlTry("", "wait", object, fmt.Sprintf("--for=jsonpath={%s}=%s", path, value), "--timeout="+timeout.String())
	if r.Code != 0 {
		j.Errorf("%s of %s does not become %q but is %q\n%s", path, object, value,
			j.kubectlTry("", "get", object, "-o", "jsonpath={"+path+"}").Stdout, r.Stderr)
	}
}

// awaitStatus waits for what `kubectl get vm` shows.
func (j *journey) awaitStatus(name, status string) {
	j.Helper()
	j.awaitField("vm/"+name, ".status.printableStatus", status, time.Minute)
}

// going watches objects from now on: the function it returns waits until each is gone, also when one of the same name came in its place.
func (j *journey) going(objects ...string) func() {
	j.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTime)
	type watch struct {
		object string
		cmd    *exec.Cmd
		said   *strings.Builder
	}
	var watches []watch
	for _, object := range objects {
		uid := j.kubectl("get", object, "-o", "jsonpath={.metadata.uid}")
		w := watch{object: object + " " + uid, said: &strings.Builder{}}
		w.cmd = shared.Program(ctx, "kubectl", "-n", j.namespace, "wait", object, "--for=delete", "--timeout=120s")
		w.cmd.Stdout, w.cmd.Stderr = w.said, w.said
		if err := w.cmd.Start(); err != nil {
			j.Fatal(err)
		}
		watches = append(watches, w)
	}
	return func() {
		j.Helper()
		defer cancel()
		for _, w := range watches {
			if err := w.cmd.Wait(); err != nil {
				j.Errorf("%s is still there: %v\n%s", w.object, err, w.said)
			}
		}
	}
}

// pinned is a manifest whose machine runs on one node.
func pinned(manifest, node string) string {
	return strings.Replace(manifest, "      domain:\n", "      nodeSelector:\n        kubernetes.io/hostname: "+node+"\n      domain:\n", 1)
}

// awaitAnother waits until an object of this name with another UID is there. An object that is as it was before may be all that is seen at
// first: after a restart of the control plane nobody has looked at it yet.
func (j *journey) awaitAnother(object, before string) {
	j.Helper()
	another := func(uid string) bool { return uid != "" && uid != before }
	if !j.watch(another, `{.metadata.uid}`, object) {
		j.Fatalf("%s is still %s", object, before)
	}
}

// pods are those with a label that nobody has told to end.
func (j *journey) pods(selector string) []string {
	j.Helper()
	const staying = "{{range .items}}{{if not .metadata.deletionTimestamp}}pod/{{.metadata.name}} {{end}}{{end}}"
	return strings.Fields(j.kubectl("get", "pods", "-l", selector, "-o", "go-template="+staying))
}

// awaitSuccessors waits until each of these pods, which are going, has a successor that is ready. What `kubectl rollout status` says is
// about the old ones until their controller has seen them go.
func (j *journey) awaitSuccessors(selector string, old []string) {
	j.Helper()
	ready := map[string]bool{}
	all := func(line string) bool {
		pod, condition, _ := strings.Cut(line, " ")
		delete(ready, pod)
		if condition == "True" && !slices.Contains(old, pod) { // one that is going has a time behind that
			ready[pod] = true
		}
		return len(ready) == len(old)
	}
	const state = `pod/{.metadata.name} {.status.conditions[?(@.type=="Ready")].status} {.metadata.deletionTimestamp}`
	if !j.watch(all, state, "pods", "-l", selector) {
		j.Fatalf("of the successors of %s ready: %v", old, ready)
	}
}

// watch reads what objects say, in a line each and again whenever one changes, until it is enough.
func (j *journey) watch(enough func(line string) bool, format string, objects ...string) bool {
	j.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTime)
	defer cancel()
	args := append([]string{"-n", j.namespace, "get", "--watch", "-o", "jsonpath=" + format + `{"\n"}`}, objects...)
	cmd := shared.Program(ctx, "kubectl", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		j.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		j.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if enough(strings.TrimSpace(lines.Text())) {
			return true
		}
	}
	return false
}
