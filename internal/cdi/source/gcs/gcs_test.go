package gcs

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"virtctl/internal/cdi/source"
)

func TestLocation(t *testing.T) {
	for text, want := range map[string]string{
		"gs://images/dir/disk 1.img":                     "https://storage.googleapis.com/images/dir/disk%201.img",
		"https://storage.cloud.google.com/images/d.img":  "https://storage.googleapis.com/images/d.img",
		"https://storage.googleapis.com/images/a%2Fb":    "https://storage.googleapis.com/images/a%2Fb",
		"http://127.0.0.1:80/images/dir/with/many/parts": "http://127.0.0.1:80/images/dir/with/many/parts",
		"gs://images": "", "gs://images/": "", "https://storage.googleapis.com/images": "", "file:///etc/passwd": "", "": "",
	} {
		u, err := location(text)
		if want == "" {
			if _, fatal := source.Fatal(err); !fatal {
				t.Errorf("%s: %v", text, u)
			}
			continue
		}
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v", text, u, err)
		}
	}
}

// google answers tokens for one account's signature, and an object to who has the token.
func google(t *testing.T, tokenStatus int) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if tokenStatus != http.StatusOK || strings.Count(r.FormValue("assertion"), ".") != 2 {
			w.WriteHeader(tokenStatus)
			_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"open","token_type":"Bearer","expires_in":3600}`)
	})
	mux.HandleFunc("GET /images/private", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer open" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.ServeContent(w, r, "x", time.Unix(1, 0), strings.NewReader("private image"))
	})
	mux.HandleFunc("GET /images/public", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x", time.Unix(1, 0), strings.NewReader("public image"))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func keyFile(t *testing.T, kind, tokenURI string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKCS8PrivateKey(key)
	raw, _ := json.Marshal(map[string]string{
		"type": kind, "client_email": "a@b.test", "private_key_id": "1", "token_uri": tokenURI,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	file := filepath.Join(t.TempDir(), "credentials.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(s Source) (string, error) {
	ctx := context.Background()
	o, err := s.Object(ctx)
	if err != nil {
		return "", err
	}
	p := source.Policy{Stall: 5 * time.Second, Attempts: 2, Progress: 1, FirstDelay: time.Millisecond, MaxDelay: time.Millisecond}
	r, err := source.NewReader(ctx, o, source.Start{}, p)
	if err != nil {
		return "", err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	return string(got), err
}

func TestRead(t *testing.T) {
	server := google(t, http.StatusOK)
	got, err := read(Source{URL: server.URL + "/images/public"})
	if err != nil || got != "public image" {
		t.Fatalf("anonymously: %q, %v", got, err)
	}
	got, err = read(Source{URL: server.URL + "/images/private", KeyFile: keyFile(t, "service_account", server.URL+"/token")})
	if err != nil || got != "private image" {
		t.Fatalf("with a key: %q, %v", got, err)
	}
	denied := google(t, http.StatusBadRequest)
	for name, s := range map[string]Source{
		"anonymous":     {URL: server.URL + "/images/private"},
		"refused key":   {URL: denied.URL + "/images/private", KeyFile: keyFile(t, "service_account", denied.URL+"/token")},
		"other type":    {URL: server.URL + "/images/private", KeyFile: keyFile(t, "external_account", server.URL+"/token")},
		"no file":       {URL: server.URL + "/images/private", KeyFile: "/nonexistent"},
		"token scheme":  {URL: server.URL + "/images/private", KeyFile: keyFile(t, "service_account", "file:///etc/passwd")},
		"not there":     {URL: server.URL + "/images/none"},
		"unusable name": {URL: "gs://"},
	} {
		_, err := read(s)
		if _, fatal := source.Fatal(err); !fatal {
			t.Errorf("%s: %v", name, err)
		}
	}
}
