package serving

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Readiness answers /readyz of a program with more ports than the one that is asked: it is ready when all of them listen, and not
// when the first one does. Who calls a ready pod is not refused.
type Readiness struct {
	mu    sync.Mutex
	ports []string
}

// Expect waits for a port; its server calls listening, once.
func (r *Readiness) Expect(port string) (listening func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ports = append(r.ports, port)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ports = slices.DeleteFunc(r.ports, func(p string) bool { return p == port })
	}
}

func (r *Readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ports) > 0 {
		http.Error(w, "not listening yet: "+strings.Join(r.ports, ", "), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprint(w, "ok")
}
