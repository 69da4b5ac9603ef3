package get_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/get"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/terminal"
	"virtctl/internal/commands/testapi"
)

// A watched list shows what is there, then each change, until it is interrupted.
func TestWatch(t *testing.T) {
	server := testapi.New()
	t.Cleanup(server.Close)
	machine := func(status string) testapi.Object {
		return testapi.Object{
			"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": testapi.Object{"name": "web", "namespace": "default"},
			"spec": testapi.Object{"runStrategy": "Always"}, "status": testapi.Object{"printableStatus": status},
		}
	}
	server.Put(machine("Starting"))
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(server.Kubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", config)
	reader, out := io.Pipe()
	f := factory.New(&terminal.Streams{In: strings.NewReader(""), Out: out, Err: io.Discard}, "virtctl", "virtctl")
	f.Connection.Bind(pflag.NewFlagSet("test", pflag.ContinueOnError))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		cmd := get.NewCmd(f)
		cmd.SetArgs([]string{"vms", "--watch"})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		done <- cmd.ExecuteContext(ctx)
	}()
	lines := bufio.NewScanner(reader)
	next := func() string {
		lines.Scan()
		return strings.Join(strings.Fields(lines.Text()), " ")
	}
	for i, want := range []string{
		"NAME STATUS READY IP NODE AGE", "web Starting False <none> <none> <unknown>", "web Running False <none> <none> <unknown>",
	} {
		if line := next(); line != want {
			t.Errorf("line %d is %q, not %q", i, line, want)
		}
		if i == 1 {
			server.Put(machine("Running"))
		}
	}
	cancel()
	if err := <-done; problem.CodeOf(err) != problem.Interrupted {
		t.Errorf("ended with %v", err)
	}
}
