package uploadproxy

import (
	"crypto/rsa"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
)

func newKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	private, _, err := token.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// proxy answers with where a request was led to.
func proxy(key *rsa.PrivateKey) http.Handler {
	return NewHandler(func() (*rsa.PublicKey, error) { return &key.PublicKey, nil },
		func(w http.ResponseWriter, _ *http.Request, namespace, claim, endpoint string) {
			_, _ = io.WriteString(w, namespace+"/"+claim+" "+endpoint)
		}, quiet())
}

func ask(h http.Handler, method, path string, header map[string]string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader("body"))
	for k, v := range header {
		request.Header.Set(k, v)
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, request)
	return answer
}

// A token opens the claim it was made for and nothing else, and only while it is valid.
func TestTokensDecide(t *testing.T) {
	key, other := newKey(t), newKey(t)
	h, now := proxy(key), time.Now()
	sign := func(k *rsa.PrivateKey, issuer string, p token.Payload, at time.Time) string {
		text, err := token.Sign(k, issuer, p, at, token.Lifetime)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + text
	}
	upload := token.Payload{Operation: token.Upload, Name: "disk", Namespace: "lab", Resource: token.Claims()}
	clone, nameless, pod := upload, upload, upload
	clone.Operation, nameless.Name = token.Clone, ""
	pod.Resource = metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	for _, tc := range []struct {
		name, authorization string
		code                int
		text                string
	}{
		{"good", sign(key, names.TokenIssuerAPI, upload, now), 200, "lab/disk upload"},
		{"lower case", strings.Replace(sign(key, names.TokenIssuerAPI, upload, now), "Bearer", "bearer", 1), 200, "lab/disk upload"},
		{"missing", "", 400, "no bearer token"},
		{"malformed", "Bearer a b", 400, "no bearer token"},
		{"rubbish", "Bearer abc", 401, "invalid token"},
		{"another key", sign(other, names.TokenIssuerAPI, upload, now), 401, "signature"},
		{"another issuer", sign(key, names.TokenIssuerClone, upload, now), 401, "issued by"},
		{"expired", sign(key, names.TokenIssuerAPI, upload, now.Add(-time.Hour)), 401, "expired"},
		{"for a clone", sign(key, names.TokenIssuerAPI, clone, now), 400, "not one for uploads"},
		{"for no claim", sign(key, names.TokenIssuerAPI, nameless, now), 400, "not one for uploads"},
		{"for a pod", sign(key, names.TokenIssuerAPI, pod, now), 400, "not one for uploads"},
	} {
		answer := ask(h, http.MethodPost, "/v1beta1/upload", map[string]string{"Authorization": tc.authorization})
		if answer.Code != tc.code || !strings.Contains(answer.Body.String(), tc.text) {
			t.Errorf("%s: %d %s", tc.name, answer.Code, answer.Body)
		}
	}
	for path, want := range map[string]string{
		"/v1beta1/upload-async": "lab/disk upload-async", "/v1alpha1/upload-form": "lab/disk upload-form",
		"/v1alpha1/upload-form-async": "lab/disk upload-form-async",
	} {
		if got := ask(h, http.MethodPost, path, map[string]string{"Authorization": sign(key, names.TokenIssuerAPI, upload, now)}); got.Body.String() != want {
			t.Errorf("%s: %d %s", path, got.Code, got.Body)
		}
	}
	for _, tc := range [][2]string{{http.MethodGet, "/v1beta1/upload"}, {http.MethodPost, "/v1beta1/upload-archive"}, {http.MethodPost, "/v1beta1/metrics"}} {
		if got := ask(h, tc[0], tc[1], map[string]string{"Authorization": sign(key, names.TokenIssuerAPI, upload, now)}); got.Code != http.StatusNotFound {
			t.Errorf("%s: %d", tc, got.Code)
		}
	}
	lost := NewHandler(func() (*rsa.PublicKey, error) { return nil, errors.New("gone") }, nil, quiet())
	if got := ask(lost, http.MethodPost, "/v1beta1/upload", map[string]string{"Authorization": "Bearer abc"}); got.Code != http.StatusInternalServerError {
		t.Errorf("without a key: %d", got.Code)
	}
}

// Pages of any origin may upload, and see how far they have come.
func TestCrossOrigin(t *testing.T) {
	h := proxy(newKey(t))
	before := ask(h, http.MethodOptions, "/v1beta1/upload", map[string]string{
		"Origin": "https://console.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, upload-offset",
	})
	if before.Code != http.StatusNoContent || before.Header().Get("Access-Control-Allow-Origin") != "*" ||
		before.Header().Get("Access-Control-Allow-Methods") != "POST" || before.Header().Get("Access-Control-Allow-Headers") != "authorization, upload-offset" {
		t.Errorf("%d %v", before.Code, before.Header())
	}
	answer := ask(h, http.MethodPost, "/v1beta1/upload", map[string]string{"Origin": "https://console.example"})
	if answer.Code != http.StatusBadRequest || answer.Header().Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(answer.Header().Get("Access-Control-Expose-Headers"), names.HeaderOffset) {
		t.Errorf("%d %v", answer.Code, answer.Header())
	}
	if plain := ask(h, http.MethodPost, "/v1beta1/upload", nil); plain.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without an origin: %v", plain.Header())
	}
}

func FuzzAuthorization(f *testing.F) {
	h := proxy(newKey(f))
	f.Add("Bearer abc")
	f.Add("bearer  a.b.c")
	f.Fuzz(func(t *testing.T, header string) {
		if answer := ask(h, http.MethodPost, "/v1beta1/upload", map[string]string{"Authorization": header}); answer.Code == http.StatusOK {
			t.Fatalf("%q was let in", header)
		}
	})
}
