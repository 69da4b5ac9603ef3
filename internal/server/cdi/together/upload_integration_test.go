//go:build integration

package together

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/cdi/uploadapi"
	"virtctl/internal/certificates"
)

// What unit tests cannot prove: that a real API server finds, trusts and obeys cdi-apiserver, that its own rights and those of
// users suffice and no more than that, and that uploads come through both ways in.
func TestUploads(t *testing.T) {
	cl := start(t)
	cl.install()
	cl.rollAll()
	cl.serve()
	go cl.uploadServer()
	cl.grant("editor", "lab", "cdi.kubevirt.io:edit", "virtctl.io:upload", "virtctl.io:cdi-edit")
	cl.grant("admin", "lab", "cdi.kubevirt.io:admin", "virtctl.io:upload")
	cl.grant("viewer", "lab", "cdi.kubevirt.io:view", "virtctl.io:cdi-view")
	waitFor(t, "the token API", func() bool {
		_, _, err := cl.token("editor", "lab", "disk")
		return err == nil
	})
	t.Run("discovery and OpenAPI", cl.documents)
	t.Run("who may do what", cl.mayI)
	t.Run("tokens", cl.tokens)
	cl.target("disk")
	t.Run("through the API server", cl.inside)
	t.Run("through the proxy", cl.byProxy)
	t.Run("certificates change under an open upload", cl.rotationUnderUpload)
	t.Run("webhooks", cl.webhooks)
	t.Run("clones", cl.clones)
	t.Run("virtctl", cl.virtctl)
}

func (cl *cluster) token(user, ns, claim string) (string, int, error) {
	body := fmt.Sprintf(`{"apiVersion":"upload.cdi.kubevirt.io/v1beta1","kind":"UploadTokenRequest","metadata":{"generateName":"t-"},"spec":{"pvcName":%q}}`, claim)
	response, text := cl.ask(user, http.MethodPost, "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/"+ns+"/uploadtokenrequests",
		strings.NewReader(body), http.Header{"Content-Type": {"application/json"}})
	answer := struct {
		Metadata struct{ Name, Namespace string }
		Status   struct{ Token string }
	}{}
	if response.StatusCode != http.StatusCreated {
		return "", response.StatusCode, fmt.Errorf("%d %s", response.StatusCode, text)
	}
	err := json.Unmarshal([]byte(text), &answer)
	if err == nil && (answer.Metadata.Namespace != ns || !strings.HasPrefix(answer.Metadata.Name, "t-") || answer.Status.Token == "") {
		err = fmt.Errorf("answer %s", text)
	}
	return answer.Status.Token, response.StatusCode, err
}

func (cl *cluster) documents(t *testing.T) {
	for path, text := range map[string]string{
		"/apis/upload.cdi.kubevirt.io/v1alpha1":            "uploadtokenrequests",
		"/apis/upload.cdi.kubevirt.io/v1beta1":             `"utr"`,
		"/openapi/v3/apis/upload.cdi.kubevirt.io/v1beta1":  "uploads/{name}/proxy/{endpoint}",
		"/openapi/v3/apis/upload.cdi.kubevirt.io/v1alpha1": "pvcName",
	} {
		answer := ""
		waitFor(t, path, func() bool {
			_, answer = cl.ask("", http.MethodGet, path, nil, nil)
			return strings.Contains(answer, text)
		})
	}
}

// mayI asks as `kubectl auth can-i` does.
func (cl *cluster) mayI(t *testing.T) {
	for _, tc := range []struct {
		user, verb, group, resource, sub string
		want                             bool
	}{
		{"editor", "create", "cdi.kubevirt.io", "datavolumes", "", true},
		{"editor", "deletecollection", "cdi.kubevirt.io", "datavolumes", "", true},
		{"editor", "create", uploadapi.Group, "uploadtokenrequests", "", true},
		{"editor", "create", uploadapi.Group, "uploads", "proxy", true},
		{"editor", "create", "cdi.kubevirt.io", "datavolumes", "source", true},
		{"editor", "update", "cdi.kubevirt.io", "cdis", "", false},
		{"editor", "update", "cdi.kubevirt.io", "storageprofiles", "", false},
		{"editor", "get", "cdi.kubevirt.io", "storageprofiles", "", true},
		{"admin", "create", uploadapi.Group, "uploads", "proxy", true},
		{"admin", "delete", "cdi.kubevirt.io", "datavolumes", "", true},
		{"viewer", "list", "cdi.kubevirt.io", "datavolumes", "", true},
		{"viewer", "create", "cdi.kubevirt.io", "datavolumes", "", false},
		{"viewer", "create", uploadapi.Group, "uploadtokenrequests", "", false},
		{"viewer", "create", uploadapi.Group, "uploads", "proxy", false},
		{"viewer", "get", uploadapi.Group, "uploads", "proxy", false},
		{"viewer", "create", "cdi.kubevirt.io", "datavolumes", "source", true},
		{"nobody", "get", "cdi.kubevirt.io", "cdiconfigs", "", true},
		{"nobody", "list", "cdi.kubevirt.io", "datavolumes", "", false},
	} {
		scheme := runtime.NewScheme()
		must(t, clientgoscheme.AddToScheme(scheme))
		c, err := client.New(cl.user(tc.user), client.Options{Scheme: scheme})
		must(t, err)
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: "lab", Verb: tc.verb, Group: tc.group, Resource: tc.resource, Subresource: tc.sub,
			},
		}}
		must(t, c.Create(context.Background(), review))
		if review.Status.Allowed != tc.want {
			t.Errorf("%s %s %s/%s %s: %v", tc.user, tc.verb, tc.group, tc.resource, tc.sub, review.Status.Allowed)
		}
	}
}

func (cl *cluster) tokens(t *testing.T) {
	text, _, err := cl.token("editor", "lab", "disk")
	must(t, err)
	secret := &corev1.Secret{}
	must(t, cl.read(secret, namespace, names.SecretSigningKey))
	key, err := token.ParsePublic(secret.Data[names.SigningKeyPublic])
	must(t, err)
	p, err := token.Verify(key, names.TokenIssuerAPI, text, time.Now())
	if err != nil || p.Name != "disk" || p.Namespace != "lab" || p.Operation != token.Upload {
		t.Errorf("%+v %v", p, err)
	}
	for _, tc := range []struct {
		user, ns, claim string
		code            int
	}{
		{"viewer", "lab", "disk", http.StatusForbidden},
		{"nobody", "lab", "disk", http.StatusForbidden},
		{"editor", "other", "disk", http.StatusForbidden},
		{"editor", "lab", "", http.StatusBadRequest},
		{"editor", "lab", "../x", http.StatusBadRequest},
	} {
		if _, code, err := cl.token(tc.user, tc.ns, tc.claim); code != tc.code {
			t.Errorf("%s in %s for %q: %d %v", tc.user, tc.ns, tc.claim, code, err)
		}
	}
}

// target is a claim that waits for an upload, with its pod.
func (cl *cluster) target(name string) *corev1.PersistentVolumeClaim {
	cl.t.Helper()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "lab", Annotations: map[string]string{names.AnnUploadRequest: ""}},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	cl.create(claim)
	cl.pod(names.UploadPod(name))
	return claim
}

func (cl *cluster) pod(name string) {
	cl.t.Helper()
	no := false
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "lab"},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: "server", Image: "x"}},
		},
	}
	cl.create(pod)
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: cl.address, PodIPs: []corev1.PodIP{{IP: cl.address}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	must(cl.t, cl.c.Status().Update(context.Background(), pod))
}

// uploadServer answers as the worker's does, as far as the way to it matters: it wants the contract's client, shows a
// certificate that cdi-deployment would have signed, and says what reached it.
func (cl *cluster) uploadServer() {
	signer, clients := &corev1.Secret{}, &corev1.ConfigMap{}
	must(cl.t, cl.read(signer, namespace, names.SecretUploadSigner))
	must(cl.t, cl.read(clients, namespace, names.BundleUploadClient))
	host := names.UploadHost("disk", "lab")
	pair, err := certificates.Issue(certificates.Pair{Cert: signer.Data["tls.crt"], Key: signer.Data["tls.key"]},
		certificates.Role{CommonName: host, DNSNames: []string{host}, Server: true}, time.Now(), time.Hour)
	must(cl.t, err)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(cl.t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(clients.Data[names.BundleKey]))
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.PeerCertificates[0].Subject.CommonName != names.UploadClientName {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set(names.HeaderOffset, "42")
		if r.Method == http.MethodHead {
			return
		}
		if r.Header.Get("X-Hang-Up") != "" {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			panic(http.ErrAbortHandler)
		}
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, "%s %d %v %s auth=%q user=%q", r.URL.Path, n, err, r.Header.Get(names.HeaderIdentity),
			r.Header.Get("Authorization"), r.Header.Get("X-Remote-User"))
	}), TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}}
	_ = server.ServeTLS(cl.uploads, "", "")
}

// big is a body that nobody could hold back without being noticed.
func big(size int64) io.Reader { return io.LimitReader(zeros{}, size) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func (cl *cluster) inside(t *testing.T) {
	path := uploadapi.ProxyPath("lab", "disk", "upload")
	response, _ := cl.ask("editor", http.MethodHead, path, nil, nil)
	if response.StatusCode != http.StatusOK || response.Header.Get(names.HeaderOffset) != "42" {
		t.Errorf("HEAD: %d %v", response.StatusCode, response.Header)
	}
	response, text := cl.ask("editor", http.MethodPost, path, big(64<<20), http.Header{names.HeaderIdentity: {"mine"}})
	if response.StatusCode != http.StatusOK || text != `/v1beta1/upload 67108864 <nil> mine auth="" user=""` {
		t.Errorf("POST: %d %s", response.StatusCode, text)
	}
	for _, tc := range []struct {
		user, method, path string
		code               int
		text               string
	}{
		{"viewer", http.MethodPost, path, http.StatusForbidden, "uploads/proxy"},
		{"viewer", http.MethodHead, path, http.StatusForbidden, ""},
		{"nobody", http.MethodPost, path, http.StatusForbidden, "uploads/proxy"},
		{"editor", http.MethodPost, uploadapi.ProxyPath("other", "disk", "upload"), http.StatusForbidden, "uploads/proxy"},
		{"editor", http.MethodPost, uploadapi.ProxyPath("lab", "none", "upload"), http.StatusServiceUnavailable, "that doesn&#39;t exist"},
		{"editor", http.MethodPost, uploadapi.ProxyPath("lab", "disk", "metrics"), http.StatusNotFound, ""},
		{"editor", http.MethodPut, path, http.StatusForbidden, ""},
		{"", http.MethodPut, path, http.StatusMethodNotAllowed, ""},
	} {
		response, text := cl.ask(tc.user, tc.method, tc.path, nil, nil)
		if response.StatusCode != tc.code || !strings.Contains(text, tc.text) {
			t.Errorf("%s %s %s: %d %s", tc.user, tc.method, tc.path, response.StatusCode, text)
		}
	}
	start := time.Now()
	response, text = cl.ask("editor", http.MethodPost, path, big(1<<40), http.Header{"X-Hang-Up": {"1"}})
	if response.StatusCode == http.StatusOK || time.Since(start) > 20*time.Second {
		t.Errorf("the upload server hung up; after %s: %d %s", time.Since(start), response.StatusCode, text)
	}
}

func (cl *cluster) byProxy(t *testing.T) {
	text, _, err := cl.token("editor", "lab", "disk")
	must(t, err)
	bearer := http.Header{"Authorization": {"Bearer " + text}}
	response, _ := cl.outside(http.MethodHead, "/v1beta1/upload-async", nil, bearer)
	if response.StatusCode != http.StatusOK || response.Header.Get(names.HeaderOffset) != "42" {
		t.Errorf("HEAD: %d %v", response.StatusCode, response.Header)
	}
	response, answer := cl.outside(http.MethodPost, "/v1alpha1/upload", big(16<<20), bearer)
	if response.StatusCode != http.StatusOK || answer != `/v1beta1/upload 16777216 <nil>  auth="" user=""` {
		t.Errorf("POST: %d %s", response.StatusCode, answer)
	}
	other, _, err := cl.token("editor", "lab", "none")
	must(t, err)
	for _, tc := range []struct {
		name, authorization string
		code                int
		text                string
	}{
		{"none", "", http.StatusBadRequest, "no bearer token"},
		{"not a bearer", "Basic abc", http.StatusBadRequest, "no bearer token"},
		{"forged", "Bearer " + text[:len(text)-8] + "AAAAAAAA", http.StatusUnauthorized, "signature"},
		{"for another claim", "Bearer " + other, http.StatusServiceUnavailable, "rejecting Upload Request for PVC none that doesn&#39;t exist"},
	} {
		h := http.Header{}
		if tc.authorization != "" {
			h.Set("Authorization", tc.authorization)
		}
		response, answer := cl.outside(http.MethodPost, "/v1beta1/upload", strings.NewReader("x"), h)
		if response.StatusCode != tc.code || !strings.Contains(answer, tc.text) {
			t.Errorf("%s: %d %s", tc.name, response.StatusCode, answer)
		}
	}
}

// A rotation in the middle of an upload must not be felt: neither by the one that is open, nor by the one that comes next.
func (cl *cluster) rotationUnderUpload(t *testing.T) {
	text, _, err := cl.token("editor", "lab", "disk")
	must(t, err)
	bearer := http.Header{"Authorization": {"Bearer " + text}}
	reader, writer := io.Pipe()
	type outcome struct {
		code int
		text string
	}
	done := make(chan outcome, 1)
	go func() {
		response, answer := cl.outside(http.MethodPost, "/v1beta1/upload", reader, bearer)
		done <- outcome{response.StatusCode, answer}
	}()
	_, err = writer.Write(make([]byte, 1<<20))
	must(t, err)
	old := &corev1.Secret{}
	must(t, cl.read(old, namespace, names.SecretUploadClientCert))
	for _, name := range []string{names.SecretProxyCert, names.SecretUploadClientCert, names.SecretAPICert} {
		must(t, cl.c.Delete(context.Background(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}))
	}
	waitFor(t, "new certificates", func() bool {
		s := &corev1.Secret{}
		return cl.read(s, namespace, names.SecretUploadClientCert) == nil && string(s.Data["tls.crt"]) != string(old.Data["tls.crt"])
	})
	cl.mounts()
	_, err = writer.Write(make([]byte, 1<<20))
	must(t, err)
	must(t, writer.Close())
	if o := <-done; o.code != http.StatusOK || !strings.Contains(o.text, " 2097152 <nil>") {
		t.Errorf("the open upload: %d %s", o.code, o.text)
	}
	response, answer := cl.outside(http.MethodPost, "/v1beta1/upload", big(1<<20), bearer)
	if response.StatusCode != http.StatusOK {
		t.Errorf("the next upload: %d %s", response.StatusCode, answer)
	}
}
