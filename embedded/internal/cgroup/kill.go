package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Kill ends every process below a cgroup with SIGKILL and returns when they are gone.
func (t Tree) Kill(name string) error {
	for _, h := range t.hierarchies {
		for {
			n, err := signalAll(filepath.Join(h.Path, name), unix.SIGKILL, -1)
			if err != nil {
				return err
			}
			if n == 0 { // a fork during one round is met by the next
				break
			}
		}
	}
	return nil
}

// Terminate asks every process below a cgroup to end, and returns when they have or the time is up.
func (t Tree) Terminate(name string, timeout time.Duration) error {
	for _, h := range t.hierarchies {
		n, err := signalAll(filepath.Join(h.Path, name), unix.SIGTERM, timeout)
		if err != nil || n > 0 { // every hierarchy holds the same processes
			return err
		}
	}
	return nil
}

// signalAll signals the processes that are there now and waits for their end; a negative timeout is none. It returns their number.
func signalAll(root string, sig unix.Signal, timeout time.Duration) (int, error) {
	var fds []unix.PollFd
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(int(fd.Fd))
		}
	}()
	err := walk(root, func(dir string) error {
		pids, err := procs(dir)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if pid == os.Getpid() {
				continue
			}
			fd, err := unix.PidfdOpen(pid, 0)
			if errors.Is(err, unix.ESRCH) {
				continue
			}
			if err != nil {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		return nil
	})
	if err != nil {
		return len(fds), err
	}
	deadline := time.Now().Add(timeout)
	for i := range fds {
		if err := await(fds[i:i+1], deadline, timeout < 0); err != nil {
			return len(fds), err
		}
	}
	return len(fds), nil
}

// await waits for one process until the deadline.
func await(fd []unix.PollFd, deadline time.Time, forever bool) error {
	for {
		wait := -1
		if !forever {
			wait = max(0, int(time.Until(deadline).Milliseconds()))
		}
		_, err := unix.Poll(fd, wait)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for a process: %w", err)
		}
		return nil
	}
}
