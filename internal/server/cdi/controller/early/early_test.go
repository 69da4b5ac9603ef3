package early

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

func claim(name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: name}}
}

// served is an upload server that answers with what comes out of answers.
func served(t *testing.T, asked chan<- struct{}, answers <-chan string) Server {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != names.PathUploadResult {
			t.Errorf("asked for %s", r.URL.Path)
		}
		asked <- struct{}{}
		select {
		case text := <-answers:
			if text == "" {
				w.WriteHeader(http.StatusNoContent)
			}
			_, _ = w.Write([]byte(text))
		case <-r.Context().Done():
			close(asked)
		}
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return Server{Run: "uid/0", Address: strings.TrimPrefix(server.URL, "https://"), TLS: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}}
}

func await[T any](t *testing.T, c <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
	return got
}

func TestHears(t *testing.T) {
	ear, asked, answers := New(t.Context()), make(chan struct{}), make(chan string)
	disk := claim("disk")
	if ear.Listens(disk, "uid/0") {
		t.Fatal("listens before it was told to")
	}
	ear.Listen(disk, served(t, asked, answers))
	await(t, asked, "the question")
	if _, told := ear.Of(disk, "uid/0"); told || !ear.Listens(disk, "uid/0") {
		t.Fatal("knows something nobody has said, or does not listen")
	}
	answers <- `{"message":"Upload Complete","digest":"sha256:00","length":7}`
	if e := await(t, ear.heard, "the event"); client.ObjectKeyFromObject(e.Object) != client.ObjectKeyFromObject(disk) {
		t.Fatalf("an event of %s", e.Object.GetName())
	}
	message, told := ear.Of(disk, "uid/0")
	if !told || message.Text() != "Upload Complete" || message.Length != 7 || message.Digest != "sha256:00" {
		t.Fatalf("heard %+v", message)
	}
	if _, told := ear.Of(disk, "uid/1"); told || ear.Listens(disk, "uid/1") {
		t.Error("what one run said counts for the next")
	}
	ear.Forget(client.ObjectKeyFromObject(disk))
	if _, told := ear.Of(disk, "uid/0"); told {
		t.Error("not forgotten")
	}
}

// A claim that is forgotten, a platform that ends: nobody keeps a line open.
func TestHangsUp(t *testing.T) {
	for name, end := range map[string]func(*Ear, context.CancelFunc){
		"forgotten": func(e *Ear, _ context.CancelFunc) { e.Forget(client.ObjectKeyFromObject(claim("disk"))) },
		"asked anew": func(e *Ear, _ context.CancelFunc) {
			e.Listen(claim("disk"), Server{Run: "uid/1", Address: "127.0.0.1:1"})
		},
		"the end": func(_ *Ear, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ear, asked := New(ctx), make(chan struct{})
			ear.Listen(claim("disk"), served(t, asked, nil))
			await(t, asked, "the question")
			end(ear, cancel)
			await(t, asked, "the end of the line") // closed then
		})
	}
}

// Servers that fail, and strangers, say nothing.
func TestBelievesOnlyResults(t *testing.T) {
	asked, answers := make(chan struct{}, 1), make(chan string, 1)
	known := served(t, asked, answers)
	answers <- ""
	if m, err := fetch(t.Context(), known); err == nil {
		t.Errorf("no result was read as %+v", m)
	}
	stranger := known
	stranger.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com", MinVersion: tls.VersionTLS12}
	if m, err := fetch(t.Context(), stranger); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger said %+v, %v", m, err)
	}
}
