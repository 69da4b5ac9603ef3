package network

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace.
type Namespace struct{ file *os.File }

// NewNamespace takes over an open descriptor of a network namespace.
func NewNamespace(file *os.File) *Namespace { return &Namespace{file: file} }

// Close releases the namespace.
func (n *Namespace) Close() error { return n.file.Close() }

// do runs fn in the namespace, on a thread of its own that ends with it, so that no other code ever finds itself in a pod's
// network by accident.
func (n *Namespace) do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and /proc/self shows its namespaces. While we hold it, the next goroutine gets another.
			defer runtime.UnlockOSThread()
			done <- n.do(fn)
			return
		}
		// Never unlocked: the thread ends here.
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the pod's network namespace: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}
