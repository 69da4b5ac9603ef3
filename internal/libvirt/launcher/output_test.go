//go:build libvirt

package launcher_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// output collects what a program prints and lets tests wait for a text.
type output struct {
	mu   sync.Mutex
	wake *sync.Cond
	buf  bytes.Buffer
}

func newOutput() *output {
	o := &output{}
	o.wake = sync.NewCond(&o.mu)
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wake.Broadcast()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await waits until text has been printed.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		o.mu.Lock()
		late = true
		o.mu.Unlock()
		o.wake.Broadcast()
	})
	defer timer.Stop()
	o.mu.Lock()
	for !strings.Contains(o.buf.String(), text) && !late {
		o.wake.Wait()
	}
	o.mu.Unlock()
	if late {
		t.Fatalf("%q was not printed in %s", text, patience)
	}
}
