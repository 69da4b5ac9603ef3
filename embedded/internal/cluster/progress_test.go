package cluster

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// Whoever asks, early or late, is told of every step and of the end.
func TestProgress(t *testing.T) {
	p := NewProgress()
	r, w := io.Pipe()
	go func() {
		_ = p.Stream(w, func() {}, nil)
		_ = w.Close()
	}()
	p.Step("etcd", time.Second)
	p.Ready()
	p.Fail(errors.New("too late to fail"))
	var steps []string
	if err := follow(r, func(e Event) { steps = append(steps, e.Step) }); err != nil {
		t.Fatal(err)
	}
	if strings.Join(steps, ",") != "etcd," || !p.isReady() {
		t.Errorf("steps %q", steps)
	}
	var late bytes.Buffer
	if err := p.Stream(&late, func() {}, nil); err != nil || strings.Count(late.String(), "\n") != 2 {
		t.Errorf("late: %q, %v", late.String(), err)
	}
}

// A failure's reason reaches the user; a server that died without one is not taken for a started one.
func TestProgressFailure(t *testing.T) {
	p := NewProgress()
	p.Fail(nil)
	p.Fail(errors.New("port 6443 is taken"))
	var out bytes.Buffer
	if err := p.Stream(&out, func() {}, nil); err != nil {
		t.Fatal(err)
	}
	if err := follow(&out, func(Event) {}); err == nil || err.Error() != "port 6443 is taken" {
		t.Errorf("got %v", err)
	}
	if err := follow(strings.NewReader(""), func(Event) {}); err == nil {
		t.Error("an ended pipe counts as ready")
	}
}
