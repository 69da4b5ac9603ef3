package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Event is one line of a start's progress.
type Event struct {
	// Step is what was done, Took how long it took.
	Step string        `json:"step,omitempty"`
	Took time.Duration `json:"took,omitempty"`
	// Ready or Error ends the progress.
	Ready bool   `json:"ready,omitempty"`
	Error string `json:"error,omitempty"`
}

func (e Event) last() bool { return e.Ready || e.Error != "" }

// Progress remembers the events of a start and tells them to everybody who asks, early or late.
type Progress struct {
	mu      sync.Mutex
	events  []Event
	changed chan struct{}
}

// NewProgress returns an empty progress.
func NewProgress() *Progress { return &Progress{changed: make(chan struct{})} }

func (p *Progress) add(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.events); n > 0 && p.events[n-1].last() {
		return
	}
	p.events = append(p.events, e)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Step notes a finished step.
func (p *Progress) Step(what string, took time.Duration) { p.add(Event{Step: what, Took: took}) }

// Ready notes that the start is done.
func (p *Progress) Ready() { p.add(Event{Ready: true}) }

// Fail notes that the start failed; nil is no failure.
func (p *Progress) Fail(err error) {
	if err != nil {
		p.add(Event{Error: err.Error()})
	}
}

// Stream writes the events, one JSON object a line, until the last one or until done is closed.
func (p *Progress) Stream(w io.Writer, flush func(), done <-chan struct{}) error {
	out := json.NewEncoder(w)
	for next := 0; ; {
		p.mu.Lock()
		events, changed := p.events[next:], p.changed
		p.mu.Unlock()
		for _, e := range events {
			if err := out.Encode(e); err != nil {
				return fmt.Errorf("write progress: %w", err)
			}
			next++
			if e.last() {
				flush()
				return nil
			}
		}
		flush()
		select {
		case <-changed:
		case <-done:
			return nil
		}
	}
}

func (p *Progress) isReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.events) > 0 && p.events[len(p.events)-1].Ready
}
