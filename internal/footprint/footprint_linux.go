// Package footprint keeps a long-running program's memory near what it uses, not near what its start used.
//
// Most of what a Go program with Kubernetes libraries has mapped after its start is code and tables that only the start
// needed: the kernel maps them sixteen pages at a time and has no reason to let go of them. Given back, the few that are used
// again come back from the page cache without reading a disk.
package footprint

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
)

const (
	// settle is how long a start takes; period is for what rare work has brought back.
	settle = 20 * time.Second
	period = 5 * time.Minute
)

// Trimmer gives memory back after the start and then once in a while.
type Trimmer struct{ Log logr.Logger }

// Start works until ctx ends.
func (t Trimmer) Start(ctx context.Context) error {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := Trim(); err != nil {
			t.Log.Info("cannot give memory back", "reason", err.Error())
			return nil
		}
		timer.Reset(period)
	}
}

// Trim gives back free heap, and the mapped pages of the program's own file.
func Trim() error {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's file: %w", err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read the program's mappings: %w", err)
	}
	defer f.Close()
	for _, m := range mappings(f, exe) {
		// The range is the program's own code and constants, which the kernel reads again from the file.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.length, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back the program's pages: %w", errno)
		}
	}
	return nil
}

type mapping struct{ start, length uintptr }

// mappings lists the mappings of a file that cannot be written to and never were: dropping those loses nothing.
func mappings(smaps io.Reader, file string) []mapping {
	var list []mapping
	var current *mapping
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 5 && strings.Contains(fields[0], "-") {
			current = parse(fields, file)
			continue
		}
		if current != nil && len(fields) >= 2 && fields[0] == "Anonymous:" && fields[1] == "0" {
			list = append(list, *current)
			current = nil
		}
	}
	return list
}

// parse reads a line like "00401000-01975000 r-xp 00001000 fd:00 1234 /usr/bin/program"; nil if it is another file's, or writable.
func parse(fields []string, file string) *mapping {
	if len(fields) < 6 || fields[5] != file || len(fields[1]) < 2 || fields[1][0] != 'r' || fields[1][1] != '-' {
		return nil
	}
	from, to, _ := strings.Cut(fields[0], "-")
	start, errFrom := strconv.ParseUint(from, 16, 64)
	end, errTo := strconv.ParseUint(to, 16, 64)
	if errFrom != nil || errTo != nil || end <= start {
		return nil
	}
	return &mapping{start: uintptr(start), length: uintptr(end - start)}
}
