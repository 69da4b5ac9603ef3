package api

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"

	"virtctl/internal/aggregation"
	"virtctl/internal/certificates/pkitest"
	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/serving"
	"virtctl/internal/tlsfile"
)

// running is a server whose one handler opens sessions.
type running struct {
	*app
	ca     *pkitest.Authority
	dir    string
	url    string
	stop   context.CancelFunc
	ended  chan error
	opened chan func()
}

func start(t *testing.T) *running {
	t.Helper()
	r := &running{ca: pkitest.New(t, "ca"), dir: t.TempDir(), ended: make(chan error, 1), opened: make(chan func(), 1)}
	r.ca.Dir(t, r.dir, "virt-api")
	aggregator, err := aggregation.NewAggregator(fake.NewClientset())
	if err != nil {
		t.Fatal(err)
	}
	synced := true
	r.app = &app{
		options: Options{LameDuck: 50 * time.Millisecond, Drain: time.Minute}, log: quiet(), aggregator: aggregator,
		cache: &informertest.FakeInformers{Synced: &synced}, config: clusterconfig.Fixed(nil), streams: serving.NewTracker(),
		serving: tlsfile.Mounted(r.dir),
		metrics: newMetrics((&health{}).ready), health: &health{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/session", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		done := r.streams.Add()
		r.opened <- func() { _ = conn.Close(); done() }
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { plain(w, r.health.ready()) })
	r.handler = mux
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.listen = func(context.Context) (net.Listener, error) { return listener, nil }
	r.url = "https://" + listener.Addr().String()
	var ctx context.Context
	ctx, r.stop = context.WithCancel(t.Context())
	go func() { r.ended <- r.run(ctx) }()
	t.Cleanup(r.stop)
	return r
}

func (r *running) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the certificate is looked at below
		ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}}
}

// An upgrade replaces virt-api's pods; whoever sits at a console must not notice.
func TestSessionsOutliveTheirServer(t *testing.T) {
	r := start(t)
	c := r.client()
	response, err := c.Get(r.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.ProtoMajor != 1 {
		t.Errorf("spoke %s, over which there are no websockets", response.Proto)
	}
	go func() { _, _ = c.Get(r.url + "/session") }() //nolint:bodyclose // ends with the session
	end := <-r.opened
	r.stop()
	waitFor(t, func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "https://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-r.ended:
		t.Fatalf("ended with an open session: %v", err)
	default:
	}
	if r.health.ready() == nil {
		t.Error("still ready")
	}
	end()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// While the endpoint is being taken out of the service, requests still arrive.
func TestLameDucksAnswer(t *testing.T) {
	r := start(t)
	r.options.LameDuck = time.Minute
	waitFor(t, func() bool {
		response, err := r.client().Get(r.url + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode == http.StatusOK
	})
	r.stop()
	waitFor(t, func() bool { return r.health.draining.Load() })
	response, err := r.client().Get(r.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "shutting down") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatal("it does not come to pass")
		case <-tick.C:
		}
	}
}

func TestTLSSettingsAreLive(t *testing.T) {
	r := start(t)
	address := strings.TrimPrefix(r.url, "https://")
	dial := func(most uint16) (string, error) {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: most}) //nolint:gosec // see above
		if err != nil {
			return "", err
		}
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	if name, err := dial(tls.VersionTLS12); err != nil || name != "virt-api" {
		t.Errorf("%q %v", name, err)
	}
	if _, err := dial(tls.VersionTLS11); err == nil {
		t.Error("speaks TLS 1.1")
	}
	kv := &v1.KubeVirt{}
	kv.Spec.Configuration.TLSConfiguration = &v1.TLSConfiguration{MinTLSVersion: v1.VersionTLS13}
	r.config.Set(kv)
	if _, err := dial(tls.VersionTLS12); err == nil {
		t.Error("speaks TLS 1.2 although the KubeVirt object forbids it")
	}
	// A renewed certificate is shown to the next client.
	r.ca.Dir(t, r.dir, "renewed-virt-api")
	if name, err := dial(tls.VersionTLS13); err != nil || name != "renewed-virt-api" {
		t.Errorf("%q %v", name, err)
	}
}

func TestRestrict(t *testing.T) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	restrict(c, &v1.TLSConfiguration{MinTLSVersion: v1.VersionTLS10, Ciphers: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA"}})
	if c.MinVersion != tls.VersionTLS12 || len(c.CipherSuites) != 1 {
		t.Errorf("%+v", c)
	}
	restrict(c, nil)
}

func TestSessionMetrics(t *testing.T) {
	m := newMetrics((&health{}).ready)
	first, second := m.Open("console", "ns", "vm"), m.Open("console", "ns", "vm")
	text := func() string {
		w := do(m.handler(), "GET", "/metrics")
		return w.Body.String()
	}
	if !strings.Contains(text(), `kubevirt_console_active_connections{namespace="ns",vmi="vm"} 2`) {
		t.Error(text())
	}
	first()
	first()
	second()
	if strings.Contains(text(), "kubevirt_console_active_connections{") || !strings.Contains(text(), `kubevirt_vmi_last_api_connection_timestamp_seconds{namespace="ns",vmi="vm"}`) {
		t.Error(text())
	}
}

func TestCommandHasTheContractsFlags(t *testing.T) {
	for _, name := range []string{"port", "drain", "lame-duck", "namespace"} {
		if Command().Flags().Lookup(name) == nil {
			t.Errorf("no flag --%s", name)
		}
	}
}

func TestStaticMapperKnowsEveryKind(t *testing.T) {
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	m := mapper()
	for _, kind := range []string{"KubeVirt", "VirtualMachine", "VirtualMachineInstance", "VirtualMachineInstanceMigration"} {
		gvk := v1.GroupVersion.WithKind(kind)
		mapping, err := m.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil || mapping.Resource.Resource != strings.ToLower(kind)+"s" || !scheme.Recognizes(gvk) { //nolint:misspell // not ours
			t.Errorf("%s: %v %v", kind, mapping, err)
		}
	}
}
