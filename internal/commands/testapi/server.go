package testapi

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Server answers the API's requests.
type Server struct {
	http  *httptest.Server
	store *store

	mu       sync.Mutex
	failures []failure
	requests []string
	// Guest is what the consoles of all machines do.
	guest   Guest
	uploads *uploads
	// pods are upload servers that are called themselves.
	pods []*httptest.Server
}

// failure makes requests fail.
type failure struct {
	method  string
	path    *regexp.Regexp
	code    int
	message string
	left    int
}

// New starts a server. Close ends it.
func New() *Server {
	s := &Server{store: newStore(), guest: Echo(), uploads: newUploads()}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.EnableHTTP2 = true
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.StartTLS()
	return s
}

// Close ends the server and every watch and stream.
func (s *Server) Close() {
	s.store.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pod := range s.pods {
		pod.CloseClientConnections()
		pod.Close()
	}
	s.http.CloseClientConnections()
	s.http.Close()
}

// URL is the server's address.
func (s *Server) URL() string { return s.http.URL }

// Kubeconfig is a kubeconfig that leads to the server.
func (s *Server) Kubeconfig() string {
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
clusters:
- name: test
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: test
  user: {token: secret-token}
contexts:
- name: test
  context: {cluster: test, user: test, namespace: default}
`, s.URL(), base64.StdEncoding.EncodeToString(authority))
}

// Load stores the objects of a YAML text with any number of documents.
func (s *Server) Load(documents string) error {
	for _, document := range regexp.MustCompile(`(?m)^---\n`).Split(documents, -1) {
		if strings.TrimSpace(document) == "" {
			continue
		}
		object := Object{}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return fmt.Errorf("read the object: %w", err)
		}
		s.Put(object)
	}
	return nil
}

// Put stores an object.
func (s *Server) Put(object Object) {
	s.store.put(bucketOf(object), object)
}

// Get reads an object, for example Get("kubevirt.io/v1", "virtualmachines", "default", "web").
func (s *Server) Get(groupVersion, resource, namespace, name string) (Object, bool) {
	return s.store.get(groupVersion+"/"+resource, namespace, name)
}

// Fail makes requests whose method and path match end with an error, as many times as said; 0 is always.
func (s *Server) Fail(method, path string, code int, message string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, failure{method, regexp.MustCompile(path), code, message, times})
}

// SetGuest says what consoles do.
func (s *Server) SetGuest(g Guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guest = g
}

// Requests gives "METHOD path body" of every request that changed something, oldest first.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.upload(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error(), nil)
		return
	}
	if f := s.failing(r); f != nil {
		refuse(w, f.code, reason(f.code), f.message, nil)
		return
	}
	if r.Header.Get("Authorization") != "Bearer secret-token" {
		refuse(w, http.StatusUnauthorized, string(metav1.StatusReasonUnauthorized), "wrong token", nil)
		return
	}
	if r.Method != http.MethodGet {
		s.note(r, body)
	}
	if strings.HasPrefix(r.URL.Path, "/apis/subresources.kubevirt.io/") {
		s.subresource(w, r, body)
		return
	}
	s.resource(w, r, body)
}

func (s *Server) note(r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := r.Method + " " + r.URL.Path
	if dry := r.URL.Query().Get("dryRun"); dry != "" {
		line += " dryRun=" + dry
	}
	if len(body) > 0 && strings.Contains(r.URL.Path, "subresources.") {
		line += " " + string(body)
	}
	s.requests = append(s.requests, strings.TrimSpace(line))
}

func (s *Server) failing(r *http.Request) *failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.failures {
		f := &s.failures[i]
		if f.method != r.Method || !f.path.MatchString(r.URL.Path) || f.left < 0 {
			continue
		}
		if f.left == 1 {
			f.left = -1
		} else if f.left > 1 {
			f.left--
		}
		return f
	}
	return nil
}

func reason(code int) string {
	return map[int]string{
		400: "BadRequest", 401: string(metav1.StatusReasonUnauthorized), 403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid",
		500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
	}[code]
}

// refuse answers with a Status, as the API does.
func refuse(w http.ResponseWriter, code int, why, message string, details Object) {
	status := Object{
		"kind": "Status", "apiVersion": "v1", "metadata": Object{}, "status": "Failure",
		"message": message, "reason": why, "code": code,
	}
	if details != nil {
		status["details"] = details
	}
	answer(w, code, status)
}

func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value)
}
