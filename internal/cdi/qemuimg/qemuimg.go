// Package qemuimg runs qemu-img on images of strangers: within limits, so that an image made for it cannot use a node up.
package qemuimg

import (
	"context"
	"os"
	"os/exec"
	"strconv"
)

const (
	// memory is the address space that the tool may use.
	memory = 1 << 30
	// stack is each thread's.
	stack = 1 << 20
)

// Command is qemu-img with arguments; seconds bounds its processor time, 0 does not.
func Command(ctx context.Context, seconds int, args ...string) *exec.Cmd {
	// Stacks and arenas of its many threads count as address space: without these two, a slow disk alone would use the limit up.
	limits := []string{"--as=" + strconv.Itoa(memory), "--stack=" + strconv.Itoa(stack), "--core=0"}
	if seconds > 0 {
		limits = append(limits, "--cpu="+strconv.Itoa(seconds))
	}
	cmd := exec.CommandContext(ctx, "prlimit", append(append(limits, "qemu-img"), args...)...)
	cmd.Env = append(os.Environ(), "MALLOC_ARENA_MAX=2", "LC_ALL=C")
	return cmd
}
