//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"io"
)

// terminal is a console session of virtctl.
type terminal struct {
	keyboard io.WriteCloser
	screen   io.Reader
	seen     bytes.Buffer
	end      func()
}

// openConsole attaches to a console, which replays what the guest wrote before.
func openConsole(ctx context.Context, namespace, name string) (*terminal, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := shared.Program(ctx, "virtctl", "-n", namespace, "console", name)
	t := &terminal{end: cancel}
	var err error
	if t.keyboard, err = cmd.StdinPipe(); err != nil {
		return t, err
	}
	if t.screen, err = cmd.StdoutPipe(); err != nil {
		return t, err
	}
	if err := cmd.Start(); err != nil {
		return t, err
	}
	t.end = func() {
		cancel()
		_ = t.keyboard.Close()
		_ = cmd.Wait()
	}
	return t, nil
}

// until reads until a text has been seen, and tells what was.
func (t *terminal) until(text string) (bool, string) {
	buffer := make([]byte, 4096)
	for !bytes.Contains(t.seen.Bytes(), []byte(text)) {
		n, err := t.screen.Read(buffer)
		t.seen.Write(buffer[:n])
		if err != nil && !bytes.Contains(t.seen.Bytes(), []byte(text)) {
			return false, t.seen.String()
		}
	}
	return true, t.seen.String()
}

// watchConsole attaches to a console and returns when a text has been seen.
func watchConsole(ctx context.Context, namespace, name, text string) (bool, string) {
	t, err := openConsole(ctx, namespace, name)
	defer t.end()
	if err != nil {
		return false, err.Error()
	}
	return t.until(text)
}
