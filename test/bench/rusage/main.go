// rusage runs a command several times and prints what each run used, one JSON object a line.
//
// It is a program of its own because Linux counts what a process's parent had in memory when it was started towards the process's
// peak: a measuring program must be small.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

type usage struct {
	CPU    time.Duration `json:"cpu"`
	Wall   time.Duration `json:"wall"`
	RSS    int64         `json:"rss"`
	Status int           `json:"status"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rusage:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: rusage TIMES COMMAND [ARGUMENT...]")
	}
	times, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("how many times: %w", err)
	}
	out := json.NewEncoder(os.Stdout)
	for range times {
		used, err := once(args[1:])
		if err != nil {
			return err
		}
		if err := out.Encode(used); err != nil {
			return err
		}
	}
	return nil
}

func once(args []string) (usage, error) {
	cmd := exec.Command(args[0], args[1:]...)
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	if cmd.ProcessState == nil {
		return usage{}, err
	}
	state := cmd.ProcessState
	// Filled in by wait4; the kernel counts the peak in KiB.
	raw, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return usage{}, fmt.Errorf("this system does not tell what a process used: run it on Linux")
	}
	return usage{CPU: state.UserTime() + state.SystemTime(), Wall: wall, RSS: raw.Maxrss << 10, Status: state.ExitCode()}, nil
}
