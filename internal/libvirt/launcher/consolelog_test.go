package launcher

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"virtctl/internal/libvirt/layout"
)

// Without a container for it, the guest's output is in the launcher's own log.
func TestConsoleLogIsStdout(t *testing.T) {
	t.Setenv(layout.ConsoleLogEnv, "")
	var stdout bytes.Buffer
	if log, err := consoleLog(&stdout); err != nil || log != io.Writer(&stdout) {
		t.Errorf("got %v, %v", log, err)
	}
}

// The first lines of a guest must not be lost because the container that reads them was slower, or was started again.
func TestConsoleLogPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	t.Setenv(layout.ConsoleLogEnv, path)
	log, err := consoleLog(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"first\n", "second\n"} {
		if _, err := io.WriteString(log, line); err != nil {
			t.Fatal(err)
		}
		reader, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(reader, got); err != nil || string(got) != line {
			t.Errorf("read %q, %v", got, err)
		}
		_ = reader.Close()
	}
}

// What is at the pipe's place is not ours to follow.
func TestConsoleLogRefusesALink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	t.Setenv(layout.ConsoleLogEnv, path)
	if log, err := consoleLog(io.Discard); err == nil {
		t.Errorf("got %v", log)
	}
}
