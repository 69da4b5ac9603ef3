package launcher

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

const (
	// maxDetail bounds what is told of QEMU's log.
	maxDetail = 2 << 10
	// readLog is how much of the log's end is read.
	readLog = 16 << 10
)

// obituary says what is known about QEMU's end: its exit status and the last lines it printed.
func (l *Launcher) obituary() string {
	name, pid := l.identity()
	var parts []string
	if exit, ok := l.reaper.Orphan(pid); ok {
		parts = append(parts, "QEMU "+exit.String())
	}
	if tail := logTail(l.dirs.LogFile(name)); tail != "" {
		parts = append(parts, tail)
	}
	return strings.Join(parts, "; ")
}

func readPID(path string) (int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read QEMU's process id: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(content)))
}

// logTail is the end of QEMU's log without libvirt's own lines and QEMU's command line.
func logTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size > readLog {
		_, _ = f.Seek(-readLog, io.SeekEnd)
	} else {
		_, _ = f.Seek(0, io.SeekStart)
	}
	content, err := io.ReadAll(io.LimitReader(f, readLog))
	if err != nil {
		return ""
	}
	return lastWords(string(content))
}

// lastWords keeps what QEMU itself printed. libvirt writes, before QEMU starts, a line with "starting up libvirt version", the
// environment and the command line, whose every line but the last ends in a backslash.
func lastWords(log string) string {
	if i := strings.LastIndex(log, ": starting up libvirt version"); i >= 0 {
		log = log[i:]
		log = log[strings.IndexByte(log+"\n", '\n'):]
	}
	var kept []string
	command := false
	for line := range strings.SplitSeq(log, "\n") {
		continued := strings.HasSuffix(line, "\\")
		if continued || command {
			command = continued
			continue
		}
		if line = printable(line); line != "" && !strings.Contains(line, "shutting down, reason=") && !strings.Contains(line, " is tainted: ") {
			kept = append(kept, line)
		}
	}
	text := strings.Join(kept, "; ")
	if len(text) > maxDetail {
		text = "... " + strings.ToValidUTF8(text[len(text)-maxDetail:], "")
	}
	return text
}

func printable(line string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '\ufffd' {
			return -1
		}
		return r
	}, line))
}
