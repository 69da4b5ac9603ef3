package supervise

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func pidString(pid int) string { return strconv.Itoa(pid) }

func openPidfd(t *testing.T, pid string) int {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// waitPidfd returns when the process has ended, and fails the test after ten seconds.
func waitPidfd(t *testing.T, fd int) {
	t.Helper()
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	if err != nil || n != 1 {
		t.Fatalf("the program outlived its supervisor: %d, %v", n, err)
	}
}
