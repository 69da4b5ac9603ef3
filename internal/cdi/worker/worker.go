// Package worker is what runs in CDI's pods: it fills a claim from a source, takes an upload, or sends a claim's content to another one.
package worker

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/worker/volume"
)

// Worker is one pod's work and where it finds things. Standard fills it for a pod.
type Worker struct {
	Env    getenv
	Paths  volume.Paths
	Policy source.Policy
	// Termination is the file that the kubelet reads at the end.
	Termination string
	// ExtraHeaders is the folder of Secrets with headers.
	ExtraHeaders string
	// Image is where the node mounted the image to import, with the pull method node.
	Image string
	// Uploads is the address of the upload server.
	Uploads string
	// Metrics is the address that progress is served on.
	Metrics string
	// CheckpointBytes and CheckpointInterval are how often progress is kept; zero leaves it to package stream.
	CheckpointBytes    int64
	CheckpointInterval time.Duration
	Log                io.Writer
}

// Standard is a worker in its pod.
func Standard() *Worker {
	return &Worker{
		Env: os.Getenv, Paths: volume.Standard(), Policy: source.DefaultPolicy(), Termination: names.Termination,
		ExtraHeaders: names.ExtraHeadersDir, Image: names.SharedDir, Metrics: fmt.Sprintf(":%d", names.PortMetrics), Uploads: fmt.Sprintf(":%d", names.PortUploadServer), Log: os.Stderr,
	}
}

// memory is the goal for Go's own: the container's limit is shared with qemu-img and with the page cache of what is written.
const memory = 48 << 20

// Run does the work called command and returns the exit code.
func (w *Worker) Run(ctx context.Context, command string) int {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
	}
	// The disk's mode is the contract's, whatever the image says.
	syscall.Umask(0)
	works := map[string]func(context.Context) (names.TerminationMessage, error){
		names.WorkerImport: w.importImage, names.WorkerUploadServer: w.upload, names.WorkerCloneSource: w.clone,
	}
	work := works[command]
	if work == nil {
		fmt.Fprintf(w.Log, "error: %q is no work of this program: it has %s, %s and %s\n", command, names.WorkerImport, names.WorkerUploadServer, names.WorkerCloneSource)
		return 2
	}
	code, message := Outcome(work(ctx))
	fmt.Fprintf(w.Log, "%s\n", message)
	// The kubelet made the file, as a mount.
	if err := os.WriteFile(w.Termination, message, 0o644); err != nil {
		fmt.Fprintf(w.Log, "error: write the termination message: %v\n", err)
		return 1
	}
	return code
}

func (w *Worker) logf(format string, args ...any) { fmt.Fprintf(w.Log, format+"\n", args...) }
