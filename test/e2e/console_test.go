//go:build e2e

package e2e

import (
	"bytes"
	"context"
)

// watchConsole attaches to a console, which replays what the guest wrote before, and returns when a text has been seen.
func watchConsole(ctx context.Context, namespace, name, text string) (bool, string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := shared.Program(ctx, "virtctl", "-n", namespace, "console", name)
	keyboard, err := cmd.StdinPipe()
	if err != nil {
		return false, err.Error()
	}
	defer keyboard.Close()
	screen, err := cmd.StdoutPipe()
	if err != nil {
		return false, err.Error()
	}
	if err := cmd.Start(); err != nil {
		return false, err.Error()
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	var seen bytes.Buffer
	buffer := make([]byte, 4096)
	for {
		n, err := screen.Read(buffer)
		seen.Write(buffer[:n])
		if bytes.Contains(seen.Bytes(), []byte(text)) {
			return true, seen.String()
		}
		if err != nil {
			return false, seen.String()
		}
	}
}
