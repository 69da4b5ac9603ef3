package nodeclient

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"virtctl/internal/certificates/pkitest"
	"virtctl/internal/tlsfile"
)

type fixed string

func (f fixed) Address(context.Context, string) (string, error) { return string(f), nil }

func (f fixed) Next(context.Context, string) (addresses <-chan string, stop func(), err error) {
	next := make(chan string, 1)
	next <- string(f)
	return next, func() {}, nil
}

// agent is a node agent as its clients see it, with a certificate of the given name.
func agent(t *testing.T, ca *pkitest.Authority, name string, h http.Handler) (*Client, *httptest.Server) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Pair(t, name)}, ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca.Dir(t, dir, "kubevirt.io:system:client:virt-handler")
	pkitest.Write(t, filepath.Join(dir, "ca"), ca.PEM)
	c := New(TLS(tlsfile.Mounted(dir),
		&tlsfile.Bundle{File: filepath.Join(dir, "ca")}), fixed("127.0.0.1"))
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if c.port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	return c, server
}

func testVMI() *v1.VirtualMachineInstance {
	return &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "vm"},
		Status:     v1.VirtualMachineInstanceStatus{NodeName: "node01"},
	}
}

func TestPutPassesTheBodyOn(t *testing.T) {
	ca := pkitest.New(t, "ca")
	var got string
	c, _ := agent(t, ca, AgentCommonName, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.Path + " " + string(body) + " " + r.TLS.PeerCertificates[0].Subject.CommonName
		w.WriteHeader(http.StatusAccepted)
	}))
	if err := c.Put(t.Context(), testVMI(), "pause", []byte(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	want := `PUT /v1/namespaces/ns/virtualmachineinstances/vm/pause {"a":1} kubevirt.io:system:client:virt-handler`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The agent knows best why it refuses: its code and words reach the user.
func TestTheAgentsStatusIsPassedOn(t *testing.T) {
	ca := pkitest.New(t, "ca")
	c, _ := agent(t, ca, AgentCommonName, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "plain") {
			http.Error(w, "something in between", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status"}, Code: 409, Reason: metav1.StatusReasonConflict, Message: "no"})
	}))
	for name, call := range map[string]func(verb string) error{
		"put": func(verb string) error { return c.Put(t.Context(), testVMI(), verb, nil) },
		"get": func(verb string) error { _, err := c.Get(t.Context(), testVMI(), verb); return err }, //nolint:bodyclose // there is none
		"dial": func(verb string) error {
			_, err := c.Dial(t.Context(), testVMI(), verb, nil)
			return err
		},
	} {
		if err := call("pause"); !apierrors.IsConflict(err) || err.Error() != "no" {
			t.Errorf("%s: %v", name, err)
		}
		if err := call("plain"); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "something in between") {
			t.Errorf("%s of something else: %v", name, err)
		}
	}
}

func TestStreams(t *testing.T) {
	ca := pkitest.New(t, "ca")
	c, _ := agent(t, ca, AgentCommonName, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{Subprotocols: []string{Subprotocol}}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.WriteMessage(websocket.BinaryMessage, []byte(r.URL.Path+"?"+r.URL.RawQuery))
	}))
	conn, err := c.Dial(t.Context(), testVMI(), "vnc", url.Values{"preserveSession": {"true"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, message, err := conn.ReadMessage()
	if err != nil || string(message) != "/v1/namespaces/ns/virtualmachineinstances/vm/vnc?handover=true&preserveSession=true" || conn.Subprotocol() != Subprotocol {
		t.Errorf("%q %v %q", message, err, conn.Subprotocol())
	}
}

// Somebody who got hold of an agent's address, or of another role's certificate, must not receive consoles.
func TestStrangersAreNoAgents(t *testing.T) {
	ca := pkitest.New(t, "ca")
	called := false
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true })
	for _, name := range []string{"kubevirt.io:system:client:virt-handler", "virt-api.kubevirt.svc"} {
		c, _ := agent(t, ca, name, h)
		if err := c.Put(t.Context(), testVMI(), "pause", nil); err == nil || called {
			t.Errorf("%s: called %v, error %v", name, called, err)
		}
		if _, err := c.Dial(t.Context(), testVMI(), "console", nil); err == nil {
			t.Errorf("%s: got a console", name)
		}
	}
	c, server := agent(t, ca, AgentCommonName, h)
	server.Close()
	if err := c.Put(t.Context(), testVMI(), "pause", nil); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "node01") {
		t.Errorf("unreachable: %v", err)
	}
}

func pod(name, node, ip string, age time.Duration, isReady bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "kubevirt", Name: name, Labels: map[string]string{AgentLabel: AgentLabelValue},
		CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age)),
	}}
	p.Spec.NodeName, p.Status.PodIP, p.Status.Phase = node, ip, corev1.PodRunning
	status := corev1.ConditionFalse
	if isReady {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
	return p
}

func TestAddress(t *testing.T) {
	foreign := pod("foreign", "node01", "10.0.0.9", 0, true)
	foreign.Namespace = "users"
	c := crfake.NewClientBuilder().WithObjects(
		pod("old", "node01", "10.0.0.1", time.Hour, true), pod("new", "node01", "10.0.0.2", time.Minute, true),
		pod("starting", "node01", "10.0.0.3", 0, false), pod("other", "node02", "10.0.0.4", 0, true), foreign,
	).Build()
	p := Pods{Reader: c, Namespace: "kubevirt"}
	for _, tc := range []struct{ node, want, problem string }{
		{"node01", "10.0.0.2", ""}, {"node02", "10.0.0.4", ""}, {"node03", "", "node03"}, {"", "", "no node yet"},
	} {
		got, err := p.Address(t.Context(), tc.node)
		if got != tc.want || (err == nil) != (tc.problem == "") || (err != nil && !strings.Contains(err.Error(), tc.problem)) {
			t.Errorf("%q: %q %v", tc.node, got, err)
		}
		if err != nil && !errors.As(err, new(apierrors.APIStatus)) {
			t.Errorf("%q: %v has no status", tc.node, err)
		}
	}
}

// The agent that ends is still in the cache when its successor is waited for; pods of other nodes come and go.
func TestNextAgent(t *testing.T) {
	informers := &informertest.FakeInformers{}
	informer, err := informers.FakeInformerFor(t.Context(), &corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	next, stop, err := Pods{Informers: informers, Namespace: "kubevirt"}.Next(t.Context(), "node01")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ending := pod("old", "node01", "10.0.0.1", time.Hour, true)
	informer.Add(ending)
	now := metav1.Now()
	ending.DeletionTimestamp = &now
	informer.Update(ending, ending)
	informer.Add(pod("other", "node02", "10.0.0.4", 0, true))
	informer.Add(pod("new", "node01", "10.0.0.2", 0, false))
	if address := <-next; address != "10.0.0.1" {
		t.Errorf("first %s", address)
	}
	informer.Update(nil, pod("new", "node01", "10.0.0.2", 0, true))
	informer.Update(nil, pod("new", "node01", "10.0.0.3", 0, true))
	if address := <-next; address != "10.0.0.3" {
		t.Errorf("then %s", address)
	}
}

func TestResume(t *testing.T) {
	ca := pkitest.New(t, "ca")
	asked := make(chan string, 1)
	c, _ := agent(t, ca, AgentCommonName, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
		w.WriteHeader(http.StatusNotFound)
	}))
	c.agents = ending{first: "127.0.0.2", then: "127.0.0.1"} // nobody listens on the first
	if _, err := c.Resume(t.Context(), testVMI(), "console", "KEY"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a key that is not known any more: %v", err)
	}
	if got := <-asked; !strings.HasSuffix(got, "/console?handover=true&resume=KEY") {
		t.Errorf("asked for %s", got)
	}
}

// ending is a node whose old agent is named before the new one.
type ending struct {
	Locator
	first, then string
}

func (e ending) Next(context.Context, string) (addresses <-chan string, stop func(), err error) {
	next := make(chan string, 2)
	next <- e.first
	next <- e.then
	return next, func() {}, nil
}
