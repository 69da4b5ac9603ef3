package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"virtctl/internal/commands/console"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/flagtype"
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

// buffer is written by a session and read by a test.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// begin makes a server whose machine runs, and a factory that leads to it.
func begin(t *testing.T, guest testapi.Guest, in io.Reader, tty bool) (f *factory.Factory, out, talk *buffer) {
	t.Helper()
	server := testapi.New()
	t.Cleanup(server.Close)
	if err := server.Load(running); err != nil {
		t.Fatal(err)
	}
	server.SetGuest(guest)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(server.Kubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", config)
	out, talk = &buffer{}, &buffer{}
	f = factory.New(&terminal.Streams{In: in, Out: out, Err: talk, InTTY: tty}, "virtctl", "virtctl")
	f.Connection.Bind(pflag.NewFlagSet("test", pflag.ContinueOnError))
	return f, out, talk
}

func options(timeout, quiet time.Duration) *console.Options {
	return &console.Options{Timeout: flagtype.Minutes(timeout), Quiet: quiet}
}

// The escape key leaves the session wherever it stands in what was typed; what came before it is still sent.
func TestEscape(t *testing.T) {
	in, typed := io.Pipe()
	got := make(chan string, 1)
	f, _, talk := begin(t, func(c io.ReadWriter) error {
		line := make([]byte, 100)
		n, err := c.Read(line)
		got <- string(line[:n])
		_, _ = c.Read(line)
		return err
	}, in, true)
	go func() { _, _ = typed.Write([]byte("ls\x1drm")) }()
	if err := console.Run(t.Context(), f, options(time.Minute, time.Minute), "web"); err != nil {
		t.Error(err)
	}
	if sent := <-got; sent != "ls" {
		t.Errorf("sent %q", sent)
	}
	if !strings.Contains(talk.String(), "Successfully connected to web console. Press Ctrl+] or Ctrl+5 to exit console.\r\n") {
		t.Errorf("said %q", talk)
	}
}

// A pipe's 0x1d is data, not a command.
func TestEscapeInPipeIsData(t *testing.T) {
	got := make(chan string, 1)
	f, _, _ := begin(t, func(c io.ReadWriter) error {
		line := make([]byte, 100)
		n, _ := c.Read(line)
		got <- string(line[:n])
		return nil
	}, strings.NewReader("a\x1db"), false)
	if err := console.Run(t.Context(), f, options(time.Minute, time.Minute), "web"); err != nil {
		t.Error(err)
	}
	if sent := <-got; sent != "a\x1db" {
		t.Errorf("sent %q", sent)
	}
}

// A guest that never falls silent does not keep a pipe for ever.
func TestTimeoutEndsPipe(t *testing.T) {
	f, out, _ := begin(t, func(c io.ReadWriter) error {
		for {
			if _, err := io.WriteString(c, "tick\n"); err != nil {
				return err
			}
		}
	}, strings.NewReader("x"), false)
	if err := console.Run(t.Context(), f, options(100*time.Millisecond, time.Minute), "web"); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(out.String(), "tick\n") {
		t.Error("nothing was printed")
	}
}

var errCut = errors.New("cut")

// A session that had lasted is taken up again after the connection broke; its input goes on.
func TestReconnect(t *testing.T) {
	in, typed := io.Pipe()
	var sessions atomic.Int32
	f, out, talk := begin(t, func(c io.ReadWriter) error {
		switch n := sessions.Add(1); n {
		case 1:
			_, _ = io.WriteString(c, "first\n")
			return errCut
		default:
			_, _ = fmt.Fprintf(c, "session %d\n", n)
			go func() { _, _ = typed.Write([]byte("hello")) }()
			line := make([]byte, 10)
			_, err := c.Read(line)
			_, _ = io.WriteString(c, "got "+string(line))
			return err
		}
	}, in, false)
	opts := options(time.Minute, time.Minute)
	opts.Stable = 0
	if err := console.Run(t.Context(), f, opts, "web"); err != nil {
		t.Error(err)
	}
	if text := out.String(); !strings.Contains(text, "first\nsession 2\n") {
		t.Errorf("printed %q", text)
	}
	if !strings.Contains(talk.String(), "the connection was lost, connecting again") {
		t.Errorf("said %q", talk)
	}
}

// Two users who both want the console do not throw each other out for ever: who is thrown out at once gives up and says why.
func TestNoFightForTheConsole(t *testing.T) {
	in, _ := io.Pipe()
	f, _, _ := begin(t, func(io.ReadWriter) error { return errCut }, in, false)
	opts := options(time.Minute, time.Minute)
	opts.Stable = time.Hour
	err := console.Run(t.Context(), f, opts, "web")
	if problem.CodeOf(err) != problem.Unreachable || !strings.Contains(err.Error(), "another user may have taken the console") {
		t.Errorf("ended with %v", err)
	}
}

// Ctrl+C in a pipe ends the session.
func TestInterrupt(t *testing.T) {
	in, _ := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	f, _, _ := begin(t, func(c io.ReadWriter) error {
		cancel()
		_, err := c.Read(make([]byte, 1))
		return err
	}, in, false)
	if err := console.Run(ctx, f, options(time.Minute, time.Minute), "web"); problem.CodeOf(err) != problem.Interrupted {
		t.Errorf("ended with %v", err)
	}
}
