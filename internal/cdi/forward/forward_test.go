package forward

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"virtctl/internal/cdi/linger"
	"virtctl/internal/cdi/names"
	"virtctl/internal/certificates"
	"virtctl/internal/tlsfile"
)

func claim(name string, notes map[string]string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: name, Annotations: notes}}
}

func pod(name, ip string, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: name, UID: "u"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}},
		},
	}
}

// cluster is a client that tells when somebody begins to watch.
func cluster(objects ...client.Object) (client.WithWatch, <-chan struct{}) {
	watched := make(chan struct{}, 16)
	c := crfake.NewClientBuilder().WithObjects(objects...).WithStatusSubresource(&corev1.Pod{}).WithInterceptorFuncs(interceptor.Funcs{
		Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
			w, err := c.Watch(ctx, list, opts...)
			watched <- struct{}{}
			return w, err
		},
	}).Build()
	return c, watched
}

func finder(c client.WithWatch) *Finder { return &Finder{Client: c, Wait: ReadyWait} }

var target = map[string]string{names.AnnUploadRequest: ""}

// What cannot go on is refused at once, with the words other programs know.
func TestFindRefuses(t *testing.T) {
	done := map[string]string{names.AnnUploadRequest: "", names.AnnPodPhase: "Succeeded"}
	tape := map[string]string{names.AnnUploadRequest: "", names.AnnContentType: "tape"}
	c, _ := cluster(claim("plain", nil), claim("done", done), claim("tape", tape))
	for name, text := range map[string]string{
		"none": "rejecting Upload Request for PVC none that doesn't exist", "plain": "PVC plain is not an upload target",
		"done": "rejecting Upload Request for PVC done that already finished uploading", "tape": "upload content-type tape is invalid",
	} {
		_, err := finder(c).Find(t.Context(), "lab", name)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Code != http.StatusServiceUnavailable || !strings.Contains(refusal.Text, text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFindWaitsByWatching(t *testing.T) {
	c, watched := cluster(claim("disk", target), pod(names.UploadPod("disk"), "", false))
	found := make(chan *Server, 1)
	go func() {
		s, err := finder(c).Find(t.Context(), "lab", "disk")
		if err != nil {
			t.Error(err)
		}
		found <- s
	}()
	<-watched
	if err := c.Status().Update(t.Context(), pod(names.UploadPod("disk"), "10.0.0.7", true)); err != nil {
		t.Fatal(err)
	}
	if s := <-found; s == nil || s.Address != "10.0.0.7" || s.Archive {
		t.Errorf("%+v", s)
	}
}

// A claim that is populated by another one is uploaded into through that one, as soon as it is known.
func TestFindFollowsThePrimeClaim(t *testing.T) {
	group := "cdi.kubevirt.io"
	wanted := claim("disk", nil)
	wanted.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: &group, Kind: "VolumeUploadSource", Name: "up"}
	archive := map[string]string{names.AnnUploadRequest: "", names.AnnContentType: "archive"}
	c, watched := cluster(wanted, claim("prime-1", archive), pod(names.UploadPod("prime-1"), "10.0.0.8", true))
	found := make(chan *Server, 1)
	go func() {
		s, err := finder(c).Find(t.Context(), "lab", "disk")
		if err != nil {
			t.Error(err)
		}
		found <- s
	}()
	<-watched
	wanted.Annotations = map[string]string{names.AnnPVCPrime: "prime-1"}
	if err := c.Update(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	if s := <-found; s == nil || s.Claim != "prime-1" || !s.Archive {
		t.Errorf("%+v", s)
	}
}

func TestFindGivesUp(t *testing.T) {
	group := "cdi.kubevirt.io"
	populated := claim("populated", nil)
	populated.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: &group, Kind: "VolumeUploadSource", Name: "up"}
	c, _ := cluster(claim("disk", target), populated)
	f := &Finder{Client: c, Wait: 50 * time.Millisecond}
	for name, text := range map[string]string{"disk": "is not ready", "populated": "PVC' wasn't created yet"} {
		if _, err := f.Find(t.Context(), "lab", name); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// pki writes what a proxy mounts, and gives the configuration of an upload server.
func pki(t *testing.T, host string) (*tlsfile.KeyPair, *tlsfile.Bundle, *tls.Config) {
	t.Helper()
	dir, now := t.TempDir(), time.Now()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	servers, err := certificates.NewAuthority("servers", now, time.Hour)
	must(err)
	clients, err := certificates.NewAuthority("clients", now, time.Hour)
	must(err)
	client, err := certificates.Issue(clients, certificates.Role{CommonName: names.UploadClientName, Client: true}, now, time.Hour)
	must(err)
	server, err := certificates.Issue(servers, certificates.Role{CommonName: host, DNSNames: []string{host}, Server: true}, now, time.Hour)
	must(err)
	for name, data := range map[string][]byte{"tls.crt": client.Cert, "tls.key": client.Key, "ca": servers.Cert} {
		must(os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	pair, err := tls.X509KeyPair(server.Cert, server.Key)
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(clients.Cert)
	return tlsfile.Mounted(dir),
		&tlsfile.Bundle{File: filepath.Join(dir, "ca")},
		&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
}

// way is a proxy to an upload server that answers with handler.
func way(t *testing.T, host string, notes map[string]string, handler http.HandlerFunc) (proxy *httptest.Server, c client.WithWatch) {
	t.Helper()
	cert, ca, config := pki(t, host)
	upstream := httptest.NewUnstartedServer(handler)
	upstream.TLS = config
	upstream.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelDebug)
	upstream.StartTLS()
	t.Cleanup(upstream.Close)
	at := upstream.Listener.Addr().(*net.TCPAddr)
	c, _ = cluster(claim("disk", notes), pod(names.UploadPod("disk"), at.IP.String(), true))
	f := &Forwarder{
		Finder: finder(c), Certificate: cert, Authorities: ca, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Port: at.Port,
	}
	proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.Serve(w, r, "lab", "disk", strings.TrimPrefix(r.URL.Path, "/"))
	}))
	t.Cleanup(proxy.Close)
	return proxy, c
}

func send(t *testing.T, method, url string, body io.Reader, header http.Header) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		request.Header[k] = v
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(response.Body)
	return response, string(text)
}

// The upload server runs among users' pods: it must get the bytes and the words of the protocol, and nothing that proves who the
// client is.
func TestServePassesOnlyWhatIsMeant(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set(names.HeaderOffset, "7")
		_, _ = fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, n)
		for k, v := range r.Header {
			_, _ = fmt.Fprintf(w, "\n%s=%s", k, v[0])
		}
	}
	proxy, _ := way(t, names.UploadHost("disk", "lab"), target, echo)
	response, text := send(t, http.MethodPost, proxy.URL+"/upload", strings.NewReader("12345"), http.Header{
		"Authorization": {"Bearer secret"}, "X-Remote-User": {"ann"}, "X-Remote-Extra-Scopes": {"a"}, "Impersonate-User": {"bob"},
		"Cookie": {"c=d"}, "X-Forwarded-For": {"10.1.1.1"}, names.HeaderIdentity: {"mine"}, names.HeaderOffset: {"3"},
	})
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(text, "POST /v1beta1/upload 5") || response.Header.Get(names.HeaderOffset) != "7" {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	for _, secret := range []string{"secret", "ann", "X-Remote", "bob", "c=d", "10.1.1.1"} {
		if strings.Contains(text, secret) {
			t.Errorf("the upload server sees %q: %s", secret, text)
		}
	}
	for _, kept := range []string{names.HeaderIdentity + "=mine", names.HeaderOffset + "=3"} {
		if !strings.Contains(text, kept) {
			t.Errorf("%q is lost: %s", kept, text)
		}
	}
	response, _ = send(t, http.MethodHead, proxy.URL+"/upload-async", nil, nil)
	if response.StatusCode != http.StatusOK || response.Header.Get(names.HeaderOffset) != "7" {
		t.Errorf("HEAD: %d %v", response.StatusCode, response.Header)
	}
}

func TestServeLeadsArchivesElsewhere(t *testing.T) {
	notes := map[string]string{names.AnnUploadRequest: "", names.AnnContentType: "archive"}
	proxy, _ := way(t, names.UploadHost("disk", "lab"), notes, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })
	if _, text := send(t, http.MethodPost, proxy.URL+"/upload", strings.NewReader("x"), nil); text != "/v1beta1/upload-archive" {
		t.Error(text)
	}
}

// A pod that calls itself an upload server but is not the claim's gets nothing.
func TestServeKnowsTheServerByItsName(t *testing.T) {
	called := false
	proxy, _ := way(t, names.UploadHost("other", "lab"), target, func(http.ResponseWriter, *http.Request) { called = true })
	response, text := send(t, http.MethodPost, proxy.URL+"/upload", strings.NewReader("x"), nil)
	if response.StatusCode != http.StatusBadGateway || called || !strings.Contains(text, "certificate") {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

// endless is a body that goes on until it is stopped.
type endless struct{ stop <-chan struct{} }

func (e endless) Read(p []byte) (int, error) {
	select {
	case <-e.stop:
		return 0, io.ErrClosedPipe
	default:
		return len(p), nil
	}
}

// An upload server that dies must not leave its client sending into nothing.
func TestServeEndsWithTheServer(t *testing.T) {
	proxy, _ := way(t, names.UploadHost("disk", "lab"), target, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
		panic(http.ErrAbortHandler)
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, proxy.URL+"/upload", endless{t.Context().Done()})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return // cut off: as good as an answer
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusBadGateway {
		t.Errorf("%d", response.StatusCode)
	}
}

// A server whose answer comes before its client has sent everything (full disk, another upload) is heard.
func TestServePassesEarlyAnswersOn(t *testing.T) {
	proxy, _ := way(t, names.UploadHost("disk", "lab"), target, func(w http.ResponseWriter, r *http.Request) {
		x, _ := linger.Begin(w, r)
		w.Header().Set(names.HeaderOffset, "9")
		linger.Text(w, http.StatusConflict, "elsewhere")
		x.End(linger.Patience)
	})
	response, _ := send(t, http.MethodPost, proxy.URL+"/upload", strings.NewReader(strings.Repeat("x", 1<<20)), nil)
	if response.StatusCode != http.StatusConflict || response.Header.Get(names.HeaderOffset) != "9" {
		t.Errorf("%d %v", response.StatusCode, response.Header)
	}
}

// A server that refuses in the middle of a large body is heard even by a client that reads nothing before it has sent everything.
func TestServePassesRefusalsOn(t *testing.T) {
	proxy, _ := way(t, names.UploadHost("disk", "lab"), target, func(w http.ResponseWriter, r *http.Request) {
		x, r := linger.Begin(w, r)
		_, _ = io.CopyN(io.Discard, r.Body, 1)
		linger.Text(w, http.StatusBadRequest, "too large")
		x.End(linger.Patience)
	})
	conn, err := net.Dial("tcp", proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const length = 64 << 20
	if _, err := fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", length); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, length)); err != nil {
		t.Fatalf("the body: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusBadRequest || string(text) != "too large" {
		t.Errorf("%s %s", response.Status, text)
	}
}

// A node that was lost says nothing: its pod's deletion must end the request.
func TestGoneSeesTheEnd(t *testing.T) {
	c, watched := cluster(claim("disk", target), pod(names.UploadPod("disk"), "10.0.0.7", true))
	f := finder(c)
	s, err := f.Find(t.Context(), "lab", "disk")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.Gone(t.Context(), s) }()
	<-watched
	if err := c.Delete(t.Context(), pod(names.UploadPod("disk"), "", true)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
