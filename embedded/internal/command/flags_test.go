package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"virtctl/embedded/internal/options"
)

// settings parses a command line as 'up' does.
func settings(t *testing.T, args ...string) (options.Options, error) {
	t.Helper()
	cmd := &cobra.Command{Use: "up"}
	merged := clusterFlags(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return merged()
}

// 'up' without flags must start the same cluster again, and a flag must not be able to break its stored objects.
func TestSettings(t *testing.T) {
	dir := t.TempDir()
	first, err := settings(t, "--state-dir", dir, "--nodes", "2", "--audit", "--pod-cidr", "10.9.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := settings(t, "--state-dir", dir)
	if err != nil || again != first {
		t.Errorf("again: %+v, %v", again, err)
	}
	other, err := settings(t, "--state-dir", dir, "--nodes=1", "--audit=false", "--pod-cidr=10.9.0.0/16")
	if err != nil || other.Nodes != 1 || other.Audit || other.PodCIDR != first.PodCIDR {
		t.Errorf("other: %+v, %v", other, err)
	}
	if _, err := settings(t, "--state-dir", dir, "--service-cidr=10.8.0.0/16"); err == nil || !strings.Contains(err.Error(), "down --purge") {
		t.Errorf("changed range: %v", err)
	}
	if _, err := settings(t, "--state-dir", dir, "--nodes=0"); err == nil {
		t.Error("no nodes were accepted")
	}
}

// A user finds every command in the help.
func TestHelp(t *testing.T) {
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"--help"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"up", "down", "status", "images", "node", "dns", "kubeconfig", "server", "version"} {
		if !strings.Contains(out.String(), "\n  "+want+" ") {
			t.Errorf("no %s in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "node-init") {
		t.Error("the inner command shows in the help")
	}
}
