//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"virtctl/test/cluster"
)

// stepTime bounds one command: a journey that takes longer is broken.
const stepTime = 3 * time.Minute

// journey is one test's view of the cluster: a namespace of its own that goes with the test.
type journey struct {
	*testing.T
	namespace string
}

func start(t *testing.T, labels ...string) *journey {
	t.Helper()
	name := strings.ToLower(t.Name())
	name = "e2e-" + strings.NewReplacer("/", "-", "_", "-").Replace(name)
	if len(name) > 50 {
		name = name[:50]
	}
	j := &journey{T: t, namespace: name}
	j.kubectl("create", "namespace", name)
	for _, label := range labels {
		j.kubectl("label", "namespace", name, label)
	}
	t.Cleanup(func() {
		if t.Failed() {
			j.report()
		}
		j.kubectl("delete", "namespace", name, "--wait=false")
	})
	return j
}

// report prints what a person would look at first.
func (j *journey) report() {
	for _, args := range [][]string{
		{"get", "vm,vmi,pods,events", "-n", j.namespace, "-o", "wide"},
		{"logs", "-n", "kubevirt", "-l", "kubevirt.io=virt-handler", "--tail", "40", "--prefix"},
		{"logs", "-n", "kubevirt", "-l", "kubevirt.io=virt-controller", "--tail", "20", "--prefix"},
	} {
		r := command(context.Background(), "", "kubectl", args...)
		j.Logf("kubectl %s\n%s%s", strings.Join(args, " "), r.Stdout, r.Stderr)
	}
}

// virtctl runs a command that must succeed and returns its data.
func (j *journey) virtctl(args ...string) string { return j.pipe("", args...) }

// pipe is virtctl with something on its standard input.
func (j *journey) pipe(stdin string, args ...string) string {
	j.Helper()
	r := j.try(stdin, args...)
	if r.Code != 0 {
		j.Fatalf("virtctl %s: exit code %d after %s\n%s%s", strings.Join(args, " "), r.Code, r.Took, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// refused runs a command that must fail with a code and a message.
func (j *journey) refused(code int, message string, args ...string) {
	j.Helper()
	r := j.try("", args...)
	if r.Code != code || !strings.Contains(r.Stderr, message) {
		j.Errorf("virtctl %s: exit code %d, want %d with %q\n%s%s", strings.Join(args, " "), r.Code, code, message, r.Stdout, r.Stderr)
	}
}

func (j *journey) try(stdin string, args ...string) cluster.Result {
	ctx, cancel := context.WithTimeout(context.Background(), stepTime)
	defer cancel()
	return command(ctx, stdin, "virtctl", append([]string{"-n", j.namespace}, args...)...)
}

// platform runs a command about the platform itself, which lives in a namespace of its own.
func (j *journey) platform(args ...string) string {
	j.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTime)
	defer cancel()
	r := command(ctx, "", "virtctl", args...)
	if r.Code != 0 {
		j.Fatalf("virtctl %s: exit code %d after %s\n%s%s", strings.Join(args, " "), r.Code, r.Took, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// kubectl runs a command that must succeed in the test's namespace and returns its data.
func (j *journey) kubectl(args ...string) string {
	j.Helper()
	return j.kubectlIn("", args...)
}

func (j *journey) kubectlIn(stdin string, args ...string) string {
	j.Helper()
	r := j.kubectlTry(stdin, args...)
	if r.Code != 0 {
		j.Fatalf("kubectl %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

func (j *journey) kubectlTry(stdin string, args ...string) cluster.Result {
	ctx, cancel := context.WithTimeout(context.Background(), stepTime)
	defer cancel()
	return command(ctx, stdin, "kubectl", append([]string{"-n", j.namespace}, args...)...)
}

// demo is the manifest of a machine with the demo guest.
func (j *journey) demo(name string, args ...string) string {
	return j.virtctl(append([]string{
		"create", "vm", "--name", name, "--memory", "128Mi", "--volume-containerdisk", "src:localhost/virtctl/demo:" + shared.Tag,
		"--termination-grace-period", "20",
	}, args...)...)
}

// boot creates a machine with the demo guest and waits until the guest asks for a login.
func (j *journey) boot(name string, args ...string) {
	j.Helper()
	j.kubectlIn(j.demo(name, args...), "apply", "-f", "-")
	j.virtctl("wait", name, "--for", "running", "--timeout", "60s")
	j.awaitConsole(name, "Welcome to the demo guest")
}

// awaitConsole reads a machine's console until a text appears.
func (j *journey) awaitConsole(name, text string) {
	j.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	found, seen := watchConsole(ctx, j.namespace, name, text)
	if !found {
		j.Fatalf("the console of %s does not show %q:\n%s", name, text, seen)
	}
}

func (j *journey) want(what, got, want string) {
	j.Helper()
	if got != want {
		j.Errorf("%s is %q, want %q", what, got, want)
	}
}
