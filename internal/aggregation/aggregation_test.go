package aggregation

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"virtctl/internal/certificates"
)

func authority(t *testing.T, name string) certificates.Pair {
	t.Helper()
	ca, err := certificates.NewAuthority(name, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func leaf(t *testing.T, ca certificates.Pair, name string) tls.Certificate {
	t.Helper()
	pair, err := certificates.Issue(ca, certificates.Role{CommonName: name, Client: true}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Whoever can say who he is can be anyone: only the API server's own certificate may, not another one of its issuer
// (CVE-2025-64432), and not one of another issuer with the same name.
func TestOnlyTheAggregatorNamesUsers(t *testing.T) {
	ca, other := authority(t, "front-proxy"), authority(t, "somebody")
	kube := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: configMapNamespace, Name: configMapName},
		Data: map[string]string{
			"requestheader-client-ca-file":       string(ca.Cert),
			"requestheader-username-headers":     `["X-Remote-User"]`,
			"requestheader-group-headers":        `["X-Remote-Group"]`,
			"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
			"requestheader-allowed-names":        `["front-proxy-client"]`,
		},
	})
	a, err := NewAggregator(kube)
	if err != nil {
		t.Fatal(err)
	}
	if a.Ready() == nil {
		t.Error("ready before the ConfigMap was read")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go a.Run(ctx)
	for a.Ready() != nil {
		<-time.After(10 * time.Millisecond)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := Identify(a, r)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, who.User.GetName()+" "+strings.Join(who.User.GetGroups(), ","))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert} //nolint:gosec // a test's server
	server.StartTLS()
	defer server.Close()
	for _, tc := range []struct {
		name  string
		certs []tls.Certificate
		want  string
	}{
		{"the aggregator", []tls.Certificate{leaf(t, ca, "front-proxy-client")}, "ann editors,system:authenticated"},
		{"another certificate of the same issuer", []tls.Certificate{leaf(t, ca, "kubelet")}, ""},
		{"the same name of another issuer", []tls.Certificate{leaf(t, other, "front-proxy-client")}, ""},
		{"nobody", nil, ""},
	} {
		transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, Certificates: tc.certs, //nolint:gosec // the server is not under test
		}}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Remote-User", "ann")
		request.Header.Set("X-Remote-Group", "editors")
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if string(body) != tc.want || (response.StatusCode == http.StatusOK) != (tc.want != "") {
			t.Errorf("%s: %d %q", tc.name, response.StatusCode, body)
		}
	}
}

// An access review asks for exactly what is done, and an error is no permission.
func TestReviewer(t *testing.T) {
	var asked []authorizationv1.SubjectAccessReviewSpec
	answer := authorizationv1.SubjectAccessReviewStatus{Allowed: true}
	c := crfake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
			review := obj.(*authorizationv1.SubjectAccessReview)
			asked = append(asked, review.Spec)
			review.Status = answer
			return nil
		},
	}).Build()
	reviewer := NewReviewer(c)
	a := authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: "ann", Groups: []string{"editors"}}, Verb: "create", Namespace: "lab", APIGroup: "g", APIVersion: "v1",
		Resource: "uploads", Subresource: "proxy", Name: "disk", ResourceRequest: true,
	}
	for range 2 {
		if decision, _, err := reviewer.Authorize(t.Context(), a); err != nil || decision != authorizer.DecisionAllow {
			t.Errorf("%v %v", decision, err)
		}
	}
	if len(asked) != 1 || asked[0].User != "ann" || *asked[0].ResourceAttributes != (authorizationv1.ResourceAttributes{
		Namespace: "lab", Verb: "create", Group: "g", Version: "v1", Resource: "uploads", Subresource: "proxy", Name: "disk",
	}) {
		t.Errorf("asked %+v", asked)
	}
	a.Namespace, answer = "other", authorizationv1.SubjectAccessReviewStatus{}
	if decision, _, _ := reviewer.Authorize(t.Context(), a); decision == authorizer.DecisionAllow {
		t.Error("one namespace's permission counts in another")
	}
}
