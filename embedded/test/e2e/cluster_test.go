//go:build e2e

// Package e2e drives a real cluster of its own beside any other on the machine: run it as root with 'make -C embedded e2e'.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"virtctl/embedded/internal/cluster"
	"virtctl/embedded/internal/images"
	"virtctl/embedded/internal/options"
)

const image = "localhost/e2e/probe:1"

// machine is the cluster under test.
type machine struct {
	*testing.T
	binary  string
	options options.Options
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	binary, err := filepath.Abs("../../../bin/virt-kube")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "virt-kube-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	o := options.Default()
	o.Instance, o.StateDir, o.RunDir, o.Bridge = "selftest", dir, "/run/virt-kube-selftest", "vkself"
	o.PodCIDR, o.ServiceCIDR, o.NodeCIDR = "10.192.0.0/16", "10.193.0.0/16", "10.194.0.0/24"
	o.PodCIDR6, o.ServiceCIDR6, o.NodeCIDR6 = "fd00:10:192::/56", "fd00:10:193::/112", "fd00:10:194::/64"
	o.APIServerPort = 16443
	m := &machine{T: t, binary: binary, options: o}
	t.Cleanup(func() {
		if t.Failed() {
			m.dumpLogs()
		}
		out, err := m.command("down", "--purge").CombinedOutput()
		if err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	return m
}

func (m *machine) dumpLogs() {
	logs, err := filepath.Glob(filepath.Join(m.options.LogDir(), "*.log"))
	if err != nil {
		return
	}
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err == nil {
			m.Logf("--- %s\n%s", path, data[max(0, len(data)-3000):])
		}
	}
}

func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command(m.binary, args...)
	cmd.Env = append(os.Environ(), "VIRT_KUBE_STATE_DIR="+m.options.StateDir, "KUBECONFIG=")
	return cmd
}

func (m *machine) upArgs(nodes string) []string {
	o := m.options
	return []string{
		"up", "--nodes=" + nodes, "--instance=" + o.Instance, "--run-dir=" + o.RunDir, "--bridge=" + o.Bridge,
		"--pod-cidr=" + o.PodCIDR, "--service-cidr=" + o.ServiceCIDR, "--node-cidr=" + o.NodeCIDR,
		"--pod-cidr6=" + o.PodCIDR6, "--service-cidr6=" + o.ServiceCIDR6, "--node-cidr6=" + o.NodeCIDR6, "--apiserver-port=16443",
	}
}

// run runs virt-kube, which must succeed, and returns what it says on standard output.
func (m *machine) run(args ...string) string {
	m.Helper()
	cmd := m.command(args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		m.Fatalf("virt-kube %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), talk.String())
	}
	return strings.TrimSpace(out.String())
}

// refused runs virt-kube, which must fail, and returns what it says.
func (m *machine) refused(cmd *exec.Cmd) string {
	m.Helper()
	out, err := cmd.CombinedOutput()
	if err == nil {
		m.Fatalf("%v succeeded: %s", cmd.Args, out)
	}
	return string(out)
}

func (m *machine) kubectl(args ...string) string {
	m.Helper()
	return m.run(append([]string{"kubectl"}, args...)...)
}

func (m *machine) apply(manifest string) {
	m.Helper()
	cmd := m.command("kubectl", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.Fatalf("apply: %v\n%s", err, out)
	}
}

// probe asks a question from inside a pod.
func (m *machine) probe(pod string, args ...string) string {
	m.Helper()
	return m.kubectl(append([]string{"exec", pod, "--", "/probe"}, args...)...)
}

func (m *machine) waitPods(names ...string) {
	m.Helper()
	args := []string{"wait", "--for=condition=Ready", "--timeout=60s"}
	for _, n := range names {
		args = append(args, "pod/"+n)
	}
	m.kubectl(args...)
}

// status asks the server itself.
func (m *machine) status() cluster.Status {
	m.Helper()
	var st cluster.Status
	if err := json.Unmarshal([]byte(m.run("status", "-o", "json")), &st); err != nil {
		m.Fatal(err)
	}
	return st
}

// eventually asks until the answer is right: for what the cluster only promises to become true.
func (m *machine) eventually(what string, right func() bool) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !right() {
		select {
		case <-ctx.Done():
			m.Fatalf("%s: not within a minute", what)
		case <-tick.C:
		}
	}
}

// loadProbe builds the test's image and gives it to the nodes.
func (m *machine) loadProbe() {
	m.Helper()
	dir := m.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "probe"), "./probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		m.Fatalf("build probe: %v\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "probe"))
	if err != nil {
		m.Fatal(err)
	}
	r, err := images.Archive(images.Image{Name: image, Entrypoint: []string{"/probe"}, Files: map[string][]byte{"probe": program, "disk/disk.img": []byte("a disk")}})
	if err != nil {
		m.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		m.Fatal(err)
	}
	path := filepath.Join(dir, "probe.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		m.Fatal(err)
	}
	if got := m.run("images", "load", path); got != image {
		m.Fatalf("loaded %q", got)
	}
}
