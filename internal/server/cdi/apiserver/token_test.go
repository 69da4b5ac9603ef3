package apiserver

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	uploadv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/upload/v1beta1"

	"virtctl/internal/aggregation"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/server/cdi/apiserver/review"
)

// handler believes whatever user a request names; what he may is decided by may.
func handler(t testing.TB, may func(authorizer.Attributes) bool) (http.Handler, *rsa.PublicKey) {
	t.Helper()
	private, _, err := token.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.ParsePrivate(private)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s := signer{key: func() (*rsa.PrivateKey, error) { return key, nil }, now: time.Now}
	return newHandler(&api{
		guard: aggregation.Guard{
			Authn: authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
				if r.Header.Get("X-Remote-User") == "" {
					return nil, false, nil
				}
				return &authenticator.Response{User: &user.DefaultInfo{Name: r.Header.Get("X-Remote-User")}}, true, nil
			}),
			Authz: authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
				if may(a) {
					return authorizer.DecisionAllow, "", nil
				}
				return authorizer.DecisionNoOpinion, "", nil
			}),
			Log: log,
		},
		sign: s.upload,
		lead: func(w http.ResponseWriter, _ *http.Request, namespace, claim, endpoint string) {
			_, _ = io.WriteString(w, namespace+"/"+claim+" "+endpoint)
		},
	}, (&review.Server{}).Handlers(), log), &key.PublicKey
}

func ask(h http.Handler, method, path, user, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if user != "" {
		r.Header.Set("X-Remote-User", user)
	}
	if strings.HasPrefix(body, "kind:") {
		r.Header.Set("Content-Type", "application/yaml")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const base = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/lab/"

func TestTokenRequests(t *testing.T) {
	h, key := handler(t, func(a authorizer.Attributes) bool {
		return a.GetUser().GetName() == "ann" && a.GetVerb() == "create" && a.GetResource() == "uploadtokenrequests" && a.GetNamespace() == "lab"
	})
	for _, tc := range []struct {
		name, user, path, body string
		code                   int
	}{
		{"as clients send it", "ann", base + "uploadtokenrequests", `{"metadata":{"generateName":"t-"},"spec":{"pvcName":"disk"}}`, 201},
		{"YAML", "ann", base + "uploadtokenrequests", "kind: UploadTokenRequest\nspec: {pvcName: disk}\n", 201},
		{"nobody", "", base + "uploadtokenrequests", `{}`, 401},
		{"who may not", "bob", base + "uploadtokenrequests", `{}`, 403},
		{"another namespace", "ann", strings.Replace(base, "lab", "other", 1) + "uploadtokenrequests", `{}`, 403},
		{"namespaces disagree", "ann", base + "uploadtokenrequests", `{"metadata":{"namespace":"other"},"spec":{"pvcName":"disk"}}`, 400},
		{"another kind", "ann", base + "uploadtokenrequests", `{"kind":"Pod","spec":{"pvcName":"disk"}}`, 400},
		{"no claim", "ann", base + "uploadtokenrequests", `{}`, 400},
		{"no JSON", "ann", base + "uploadtokenrequests", `{`, 400},
		{"a list", "ann", base + "uploadtokenrequests", `[]`, 400},
		{"an escaped namespace", "ann", "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/a%2Fb/uploadtokenrequests", `{}`, 400},
	} {
		answer := ask(h, http.MethodPost, tc.path, tc.user, tc.body)
		if answer.Code != tc.code {
			t.Errorf("%s: %d %s", tc.name, answer.Code, answer.Body)
		}
		if tc.code != http.StatusCreated {
			continue
		}
		request := uploadv1.UploadTokenRequest{}
		if err := json.Unmarshal(answer.Body.Bytes(), &request); err != nil || request.Kind != kind || request.Namespace != "lab" {
			t.Fatalf("%s: %s", tc.name, answer.Body)
		}
		p, err := token.Verify(key, names.TokenIssuerAPI, request.Status.Token, time.Now())
		if err != nil || p.Name != "disk" || p.Namespace != "lab" || p.Operation != token.Upload {
			t.Errorf("%s: %+v %v", tc.name, p, err)
		}
	}
	if answer := ask(h, http.MethodPost, base+"uploadtokenrequests?dryRun=All", "ann", `{"spec":{"pvcName":"disk"}}`); strings.Contains(answer.Body.String(), `"token"`) {
		t.Errorf("a dry run gives a token: %s", answer.Body)
	}
	if answer := ask(h, http.MethodGet, base+"uploadtokenrequests", "ann", ""); answer.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", answer.Code)
	}
}

// The review must be about exactly what is done: the claim in the path, reading or writing.
func TestUploadsAreReviewed(t *testing.T) {
	var asked string
	h, _ := handler(t, func(a authorizer.Attributes) bool {
		asked = a.GetVerb() + " " + a.GetNamespace() + " " + a.GetResource() + "/" + a.GetSubresource() + " " + a.GetName()
		return a.GetUser().GetName() == "ann"
	})
	for _, tc := range []struct {
		method, user, path string
		code               int
		review             string
	}{
		{http.MethodPost, "ann", base + "uploads/disk/proxy/upload", 200, "create lab uploads/proxy disk"},
		{http.MethodHead, "ann", base + "uploads/disk/proxy/upload-async", 200, "get lab uploads/proxy disk"},
		{http.MethodPost, "ann", base + "uploads/disk/proxy/upload-direct", 200, "create lab uploads/proxy disk"},
		{http.MethodHead, "ann", base + "uploads/disk/proxy/upload-direct", 404, "get lab uploads/proxy disk"},
		{http.MethodPost, "bob", base + "uploads/disk/proxy/upload-direct", 403, "create lab uploads/proxy disk"},
		{http.MethodPost, "bob", base + "uploads/disk/proxy/upload", 403, "create lab uploads/proxy disk"},
		{http.MethodPost, "", base + "uploads/disk/proxy/upload", 401, ""},
		{http.MethodPost, "ann", base + "uploads/disk/proxy/upload-archive", 404, "create lab uploads/proxy disk"},
		{http.MethodPost, "ann", base + "uploads/disk/proxy/..%2Fmetrics", 404, "create lab uploads/proxy disk"},
		{http.MethodPost, "ann", base + "uploads/a%2Fb/proxy/upload", 400, ""},
		{http.MethodDelete, "ann", base + "uploads/disk/proxy/upload", 405, ""},
		{http.MethodPost, "ann", base + "uploads/disk/proxy", 404, ""},
	} {
		asked = ""
		if answer := ask(h, tc.method, tc.path, tc.user, ""); answer.Code != tc.code || asked != tc.review {
			t.Errorf("%s %s as %q: %d, reviewed %q, %s", tc.method, tc.path, tc.user, answer.Code, asked, answer.Body)
		}
	}
}

// kubectl and other clients learn from these what there is.
func TestDocuments(t *testing.T) {
	h, _ := handler(t, func(authorizer.Attributes) bool { return false })
	for file, path := range map[string]string{
		"resources.json": "/apis/upload.cdi.kubevirt.io/v1beta1", "group.json": "/apis/upload.cdi.kubevirt.io",
		"openapi-v2.json": "/openapi/v2", "openapi-v3.json": "/openapi/v3/apis/upload.cdi.kubevirt.io/v1beta1",
	} {
		answer := ask(h, http.MethodGet, path, "", "")
		var document any
		if err := json.Unmarshal(answer.Body.Bytes(), &document); answer.Code != http.StatusOK || err != nil {
			t.Fatalf("%s: %d %v", path, answer.Code, err)
		}
		got, err := json.MarshalIndent(document, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", file)
		if os.Getenv("UPDATE") != "" {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != string(got)+"\n" {
			t.Errorf("%s is not what it was; look at the difference and run UPDATE=1 go test ./internal/server/cdi/apiserver\n%s", golden, got)
		}
	}
}

func FuzzTokenRequest(f *testing.F) {
	h, _ := handler(f, func(authorizer.Attributes) bool { return true })
	f.Add(`{"spec":{"pvcName":"disk"}}`)
	f.Add("kind: UploadTokenRequest")
	f.Fuzz(func(t *testing.T, body string) {
		if answer := ask(h, http.MethodPost, base+"uploadtokenrequests", "ann", body); answer.Code >= 500 {
			t.Fatalf("%d %s", answer.Code, answer.Body)
		}
	})
}
