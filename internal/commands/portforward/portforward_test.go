package portforward_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/portforward"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/terminal"
	"virtctl/internal/commands/testapi"
)

const running = `
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: web, namespace: default}
spec: {domain: {}}
status: {phase: Running, nodeName: node01}
`

// forward starts the command and gives the local addresses it prints, its messages, and a way to end it.
func forward(t *testing.T, server *testapi.Server, ports ...string) (addresses []string, talk <-chan string, end func() error) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(server.Kubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", config)
	outReader, out := io.Pipe()
	errReader, talkWriter := io.Pipe()
	f := factory.New(&terminal.Streams{In: strings.NewReader(""), Out: out, Err: talkWriter}, "virtctl", "virtctl")
	f.Connection.Bind(pflag.NewFlagSet("test", pflag.ContinueOnError))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- portforward.Run(ctx, f, &portforward.Options{Address: "127.0.0.1"}, append([]string{"vmi/web"}, ports...))
	}()
	lines := bufio.NewReader(outReader)
	for range ports {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, strings.Fields(line)[2])
	}
	said := make(chan string, 10)
	go func() {
		for scanner := bufio.NewScanner(errReader); scanner.Scan(); {
			said <- scanner.Text()
		}
	}()
	return addresses, said, func() error { cancel(); return <-done }
}

func start(t *testing.T) *testapi.Server {
	t.Helper()
	server := testapi.New()
	t.Cleanup(server.Close)
	if err := server.Load(running); err != nil {
		t.Fatal(err)
	}
	return server
}

func ask(t *testing.T, network, address, question string) string {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, question); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, len(question))
	// A connection that was refused behind the scenes ends, in one way or another.
	n, _ := io.ReadFull(conn, answer)
	return string(answer[:n])
}

// One connection that fails must not end the forwarding: the next one works.
func TestGoesOnAfterFailure(t *testing.T) {
	server := start(t)
	server.Fail("GET", "portforward/80/tcp", 500, "connect to the guest: connection refused", 1)
	at, talk, end := forward(t, server, "0:80")
	if answer := ask(t, "tcp", at[0], "hello"); answer != "" {
		t.Errorf("a refused connection answered %q", answer)
	}
	if line := <-talk; !strings.Contains(line, "cannot reach port 80 of VMI web") {
		t.Errorf("said %q", line)
	}
	for range 3 {
		if answer := ask(t, "tcp", at[0], "hello"); answer != "hello" {
			t.Errorf("answered %q", answer)
		}
	}
	if err := end(); problem.CodeOf(err) != problem.Interrupted || !problem.IsSilent(err) {
		t.Errorf("ended with %v", err)
	}
}

// Datagrams of several clients go their own ways, beside TCP.
func TestUDP(t *testing.T) {
	at, _, end := forward(t, start(t), "udp/0:53", "0:80")
	for _, question := range []string{"one", "two"} {
		if answer := ask(t, "udp", at[0], question); answer != question {
			t.Errorf("answered %q", answer)
		}
	}
	if answer := ask(t, "tcp", at[1], "three"); answer != "three" {
		t.Errorf("answered %q", answer)
	}
	if err := end(); problem.CodeOf(err) != problem.Interrupted {
		t.Errorf("ended with %v", err)
	}
}

// A client that has finished sending still gets its answer.
func TestHalfClose(t *testing.T) {
	at, _, end := forward(t, start(t), "0:80")
	conn, err := net.Dial("tcp", at[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "hello bye"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || string(answer) != "hello bye" {
		t.Errorf("answered %q, %v", answer, err)
	}
	_ = conn.Close()
	_ = end()
}

// A local port that is taken is an error at once.
func TestPortTaken(t *testing.T) {
	server := start(t)
	at, _, end := forward(t, server, "0:80")
	_, port, err := net.SplitHostPort(at[0])
	if err != nil {
		t.Fatal(err)
	}
	f := factory.New(&terminal.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, "virtctl", "virtctl")
	f.Connection.Bind(pflag.NewFlagSet("test", pflag.ContinueOnError))
	err = portforward.Run(t.Context(), f, &portforward.Options{Address: "127.0.0.1"}, []string{"vmi/web", port + ":80"})
	if err == nil || !strings.Contains(err.Error(), "choose another local port") {
		t.Errorf("ended with %v", err)
	}
	_ = end()
}
