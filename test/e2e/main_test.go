//go:build e2e

// Package e2e walks the users' journeys on a real cluster of this machine with real virtual machines.
//
// It starts an embedded cluster of its own, beside any other, and takes it away at the end. VIRTCTL_E2E_KEEP=1 leaves it running and
// uses it again next time.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cluster is the cluster all tests share.
var cluster = struct {
	root, state, kubeconfig, tag string
	keep                         bool
}{}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return 1, err
	}
	tag, err := os.ReadFile(filepath.Join(root, "bin/.version"))
	if err != nil {
		return 1, fmt.Errorf("nothing is built yet: run `make build images`: %w", err)
	}
	cluster.root, cluster.tag = root, strings.TrimSpace(string(tag))
	cluster.state = filepath.Join(os.TempDir(), "virtctl-e2e")
	cluster.kubeconfig = filepath.Join(cluster.state, "kubeconfig")
	cluster.keep = os.Getenv("VIRTCTL_E2E_KEEP") != ""
	if err := up(); err != nil {
		return 1, err
	}
	code := m.Run()
	if cluster.keep {
		return code, nil
	}
	return code, kube("down", "--state-dir", cluster.state, "--purge")
}

const (
	instance = "virtctl-e2e"
	runDir   = "/run/virtctl-e2e"
)

// up starts two nodes with addresses of their own, loads the images that were built and installs the platform.
func up() error {
	if err := kube("up", "--instance", instance, "--state-dir", cluster.state, "--run-dir", runDir, "--nodes", "2", "--audit",
		"--apiserver-port", "8443", "--bridge", "vkbre2e", "--node-cidr", "10.220.0.0/24", "--node-cidr6", "fd00:10:220::/64",
		"--pod-cidr", "10.250.0.0/16", "--pod-cidr6", "fd00:10:250::/56", "--service-cidr", "10.98.0.0/16", "--service-cidr6", "fd00:10:98::/112"); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(cluster.root, "out/images/*.tar"))
	if err != nil || len(archives) == 0 {
		return fmt.Errorf("no images in out/images: run `make images` (%v)", err)
	}
	if err := kube(append([]string{"images", "load", "--state-dir", cluster.state}, archives...)...); err != nil {
		return err
	}
	result := command(context.Background(), "", "virtctl", "install", "--timeout", "3m")
	if result.code != 0 {
		return fmt.Errorf("virtctl install: %s%s", result.stdout, result.stderr)
	}
	fmt.Println(strings.TrimSpace(result.stdout))
	return nil
}

func kube(args ...string) error {
	cmd := exec.Command(filepath.Join(cluster.root, "bin/virt-kube"), args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("virt-kube %s: %w", args[0], err)
	}
	return nil
}

// result is what a command left.
type result struct {
	stdout, stderr string
	code           int
	took           time.Duration
}

// command runs one of the project's programs against the cluster, as a CI pipeline would.
func command(ctx context.Context, stdin, program string, args ...string) result {
	cmd := exec.CommandContext(ctx, filepath.Join(cluster.root, "bin", program), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.kubeconfig, "VIRTCTL_CONFIG=/dev/null")
	var out, err strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	start := time.Now()
	runErr := cmd.Run()
	r := result{stdout: out.String(), stderr: err.String(), took: time.Since(start)}
	if runErr != nil {
		r.code = max(cmd.ProcessState.ExitCode(), 1)
	}
	return r
}
