package serving

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// A pod that is ready before it listens is called, refuses, and is not called again until something about it changes.
func TestReadyWhenAllPortsListen(t *testing.T) {
	ready := &Readiness{}
	consoles, migrations := ready.Expect("consoles"), ready.Expect("migrations")
	want := func(code int, text string) {
		t.Helper()
		w := httptest.NewRecorder()
		ready.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if got := strings.TrimSpace(w.Body.String()); w.Code != code || got != text {
			t.Errorf("%d %q, want %d %q", w.Code, got, code, text)
		}
	}
	want(503, "not listening yet: consoles, migrations")
	consoles()
	want(503, "not listening yet: migrations")
	migrations()
	want(200, "ok")
}
