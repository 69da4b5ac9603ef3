package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Exec runs a command inside the namespaces of a node's process 1 and returns its exit code.
func Exec(pid int, command []string, env []string) (int, error) {
	type result struct {
		code int
		err  error
	}
	done := make(chan result)
	go func() {
		// The thread has changed namespaces: it ends with its goroutine, nothing else may run on it.
		runtime.LockOSThread()
		code, err := execLocked(pid, command, env)
		done <- result{code, err}
	}()
	r := <-done
	return r.code, r.err
}

func execLocked(pid int, command, env []string) (int, error) {
	if err := enter(pid); err != nil {
		return 0, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run in the node: %w", err)
	}
	return 0, nil
}

// enter moves the calling thread into the namespaces of a process; children it forks are in its PID namespace.
func enter(pid int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter node: %w", err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("enter node: process %s: %w", strconv.Itoa(pid), err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWPID|unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter node: %w", err)
	}
	return nil
}
