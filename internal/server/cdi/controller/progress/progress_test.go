package progress

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const page = `# HELP kubevirt_cdi_import_progress_total The import progress in percentage
# TYPE kubevirt_cdi_import_progress_total counter
kubevirt_cdi_import_progress_total{ownerUID="other"} 99
kubevirt_cdi_import_progress_total{ownerUID="mine"} 12.345
`

// The number beside a DataVolume is its own, and only a number.
func TestOf(t *testing.T) {
	body := page
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	s := New()
	s.address = func(*corev1.Pod) string { return strings.TrimPrefix(server.URL, "https://") }
	pod := &corev1.Pod{Status: corev1.PodStatus{PodIP: "127.0.0.1", Phase: corev1.PodRunning}}
	if percent, known := s.Of(context.Background(), pod, "mine"); !known || Text(percent) != "12.35%" {
		t.Errorf("%v, %v", percent, known)
	}
	for _, bad := range []string{
		`kubevirt_cdi_import_progress_total{ownerUID="mine"} NaN`, `kubevirt_cdi_import_progress_total{ownerUID="mine"} 1e9`,
		`kubevirt_cdi_import_progress_total{ownerUID="min"} 5`, strings.Repeat("x", 1<<21),
	} {
		body = bad
		if percent, known := s.Of(context.Background(), pod, "mine"); known {
			t.Errorf("%.60q: %v", bad, percent)
		}
	}
	body = `kubevirt_cdi_clone_progress_total{ownerUID="mine"} 7`
	if percent, known := s.Of(context.Background(), pod, "mine"); !known || percent != 7 {
		t.Errorf("clone: %v, %v", percent, known)
	}
	pod.Status.Phase = corev1.PodPending
	if _, known := s.Of(context.Background(), pod, "mine"); known {
		t.Error("a pod that does not run was asked")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(page, "mine")
	f.Fuzz(func(t *testing.T, text, owner string) {
		if percent, known := parse(strings.NewReader(text), owner); known && (percent < 0 || percent > 100) {
			t.Errorf("%v percent", percent)
		}
	})
}
