package launcher

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"virtctl/internal/libvirt/layout"
)

// consoleLog is where the guest's serial output goes: the log of a container of its own where the pod has one, else stdout.
func consoleLog(stdout io.Writer) (io.Writer, error) {
	path := os.Getenv(layout.ConsoleLogEnv)
	if path == "" {
		return stdout, nil
	}
	return openConsolePipe(path)
}

// openConsolePipe opens the pipe to the other container, which makes it too: whoever comes first. Open for reading as well, it waits
// for no reader and outlives one that is started again. It is not closed: what was written before the launcher ends can still be read.
func openConsolePipe(path string) (*os.File, error) {
	if err := syscall.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the pipe of the guest's log: %w", err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the pipe of the guest's log: %w", err)
	}
	return pipe, nil
}
