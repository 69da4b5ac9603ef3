package clusterconfig

import (
	"sync"
	"sync/atomic"

	v1 "kubevirt.io/api/core/v1"
)

// Source holds the configuration as it is now. Get is cheap and safe from every goroutine.
// The zero Source gives the defaults.
type Source struct {
	current atomic.Pointer[Config]
	version atomic.Pointer[string]

	mu        sync.Mutex
	listeners []func(Config)
}

// Fixed is a Source that never changes, for tests and one-shot programs.
func Fixed(kv *v1.KubeVirt) *Source {
	s := &Source{}
	s.Set(kv)
	return s
}

// Get gives the present configuration.
func (s *Source) Get() Config {
	if c := s.current.Load(); c != nil {
		return *c
	}
	return Effective(nil)
}

// Version is the resourceVersion of the KubeVirt that was taken last, "" if there was none: it tells whether a change has arrived.
func (s *Source) Version() string {
	if v := s.version.Load(); v != nil {
		return *v
	}
	return ""
}

// Set takes a new KubeVirt (nil when there is none) and tells the listeners.
func (s *Source) Set(kv *v1.KubeVirt) {
	c := Effective(kv)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.Store(&c)
	version := ""
	if kv != nil {
		version = kv.ResourceVersion
	}
	s.version.Store(&version)
	for _, f := range s.listeners {
		f(c)
	}
}

// OnChange calls f after every change. f must return quickly.
func (s *Source) OnChange(f func(Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, f)
}
