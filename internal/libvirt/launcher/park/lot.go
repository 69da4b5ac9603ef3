// Package park keeps streams of the guest while the virt-handler they went through is replaced.
package park

import (
	"errors"
	"os"
	"sync"
	"time"
)

const (
	// patience is how long the next virt-handler may take to come.
	patience = 2 * time.Minute
	// places is more than there are sessions of one machine at once.
	places = 16
	maxKey = 64
)

// Lot keeps streams by key. The zero value is empty.
type Lot struct {
	mu      sync.Mutex
	streams map[string]parked
}

type parked struct {
	file *os.File
	end  *time.Timer
}

// Put keeps a stream, which is the lot's from now on, for somebody who knows the key. If nobody comes, it is closed.
func (l *Lot) Put(key string, f *os.File) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, taken := l.streams[key]
	switch {
	case key == "" || len(key) > maxKey || taken:
		_ = f.Close()
		return errors.New("the key is empty, too long or in use")
	case len(l.streams) >= places:
		_ = f.Close()
		return errors.New("too many streams are kept already")
	}
	if l.streams == nil {
		l.streams = map[string]parked{}
	}
	l.streams[key] = parked{f, time.AfterFunc(patience, func() {
		if f, ok := l.Take(key); ok {
			_ = f.Close()
		}
	})}
	return nil
}

// Take gives a stream that was put there, once.
func (l *Lot) Take(key string) (*os.File, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.streams[key]
	if !ok {
		return nil, false
	}
	p.end.Stop()
	delete(l.streams, key)
	return p.file, true
}
