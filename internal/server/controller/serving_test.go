package controller

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"crypto/x509"

	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// kubelet's probes and Prometheus reach the port before the certificate's Secret exists, and see the Secret's when it does.
func TestServing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	server, err := metricsserver.NewServer(serving(Flags{Port: port, CertDir: dir}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	address := listener.Addr().String()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if status, _ := get(t, address, path); status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
	}
	cert, err := newSelfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "tls.key"), "PRIVATE KEY", key)
	writePEM(t, filepath.Join(dir, "tls.crt"), "CERTIFICATE", cert.Certificate[0])
	if _, served := get(t, address, "/healthz"); served != string(cert.Certificate[0]) {
		t.Error("the Secret's certificate is not used")
	}
}

func writePEM(t *testing.T, path, kind string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// get dials until the server listens.
func get(t *testing.T, address, path string) (status int, certificate string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var served string
	config := &tls.Config{InsecureSkipVerify: true, VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
		served = string(raw[0])
		return nil
	}}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err == nil {
			defer response.Body.Close()
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				t.Fatal(err)
			}
			return response.StatusCode, served
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// Wrong flags end with what to do next.
func TestCommand(t *testing.T) {
	t.Setenv("LAUNCHER_IMAGE", "")
	t.Setenv("NAMESPACE", "")
	for want, args := range map[string][]string{
		"no launcher image; give --launcher-image":                                                    {},
		"no install namespace; set NAMESPACE or give --namespace":                                     {"--launcher-image=x"},
		`unknown flag: --nonsense`:                                                                    {"--nonsense"},
		`unknown command "extra" for "controller"`:                                                    {"extra"},
		`invalid argument "many" for "--port" flag: strconv.ParseInt: parsing "many": invalid syntax`: {"--port=many"},
	} {
		c := Command()
		c.SetArgs(args)
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		if err := c.Execute(); err == nil || err.Error() != want {
			t.Errorf("%v: %v", args, err)
		}
	}
}
