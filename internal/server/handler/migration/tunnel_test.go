package migration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"virtctl/internal/server/handler/beneath"
	"virtctl/internal/server/handler/certs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority is the platform's.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(raw)
	must(t, err)
	return &authority{t: t, cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})}
}

func (a *authority) source(name string) *certs.Source {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	must(a.t, err)
	keyRaw, err := x509.MarshalECPrivateKey(key)
	must(a.t, err)
	dir := a.t.TempDir()
	for name, content := range map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), "ca": a.pem,
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyRaw}),
	} {
		must(a.t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	return certs.New(certs.Files{Dir: dir, CA: filepath.Join(dir, "ca")}, logr.Discard())
}

// pair is two nodes: a receiver, and a tunnel to it.
type pair struct {
	receiver *Receiver
	tunnel   *Tunnel
	dir      string
}

// plain is the client that does not encrypt.
const plain = "plain"

func newPair(t *testing.T, client, server string) *pair {
	t.Helper()
	ca := newAuthority(t)
	p := &pair{dir: t.TempDir()}
	p.receiver = &Receiver{TLS: ca.source(server).Server(tls.RequireAndVerifyClientCert), Log: logr.Discard()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.receiver.Serve(ctx, listener) }()
	dir, err := beneath.OpenDir(p.dir)
	must(t, err)
	route := Route{Migration: "move-1", Address: listener.Addr().String()}
	if client != plain {
		route.TLS = ca.source(client).Client(TargetCommonName)
	}
	p.tunnel, err = OpenTunnel(ctx, dir, os.Getuid(), route)
	must(t, err)
	t.Cleanup(func() {
		_ = p.tunnel.Close()
		cancel()
		must(t, <-done)
	})
	return p
}

func (p *pair) connect(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(p.dir, name), Net: "unix"})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// shouting is a launcher whose sockets answer with the stream's name and what they are sent.
func shouting(_ context.Context, s Stream) (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	go func() {
		inside := os.NewFile(uintptr(fds[0]), "inside")
		defer inside.Close()
		all, _ := io.ReadAll(inside)
		_, _ = inside.WriteString(string(s) + ":")
		_, _ = inside.Write(all)
	}()
	return os.NewFile(uintptr(fds[1]), "stream"), nil
}

func TestTunnel(t *testing.T) {
	for _, client := range []string{SourceCommonName, plain} {
		t.Run(client, func(t *testing.T) { streams(t, newPair(t, client, TargetCommonName)) })
	}
}

func streams(t *testing.T, p *pair) {
	p.receiver.Expect("move-1", Guest{Open: shouting, Plain: true, Done: func() {}})
	for _, name := range []string{"libvirt", "memory", "nbd"} {
		conn := p.connect(t, name)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() {
			_, _ = conn.Write(sent)
			_ = conn.CloseWrite() // the end of one direction gets through, too
		}()
		got, err := io.ReadAll(conn)
		must(t, err)
		if want := append([]byte(name+":"), sent...); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came back, want %d", name, len(got), len(want))
		}
	}
	if err := p.tunnel.Err(); err != nil {
		t.Error(err)
	}
	must(t, p.tunnel.Close())
	left, err := os.ReadDir(p.dir)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("sockets are left: %v", left)
	}
}

func TestTunnelRefusals(t *testing.T) {
	for _, c := range []struct {
		name, client, server string
		expect               types.UID
		wantErr              string
	}{
		{"another component as client", "kubevirt.io:system:client:virt-handler", TargetCommonName, "move-1", ""},
		{"another component as server", SourceCommonName, "virt-api.kubevirt.svc", "move-1", "virt-api.kubevirt.svc"},
		{"a client that does not encrypt", plain, TargetCommonName, "move-1", ""},
		{"a migration that is not expected", SourceCommonName, TargetCommonName, "move-2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, c.client, c.server)
			p.receiver.Expect(c.expect, Guest{Open: func(context.Context, Stream) (*os.File, error) {
				t.Error("the pod was reached")
				return nil, errors.New("no")
			}})
			conn := p.connect(t, "memory")
			_, _ = conn.Write([]byte("guest"))
			got, _ := io.ReadAll(conn)
			if len(got) > 0 {
				t.Errorf("got %q", got)
			}
			if err := p.tunnel.Err(); c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
				t.Errorf("the tunnel says %v, want %q", err, c.wantErr)
			}
		})
	}
}

func TestReceiverForgets(t *testing.T) {
	r := &Receiver{}
	pod := types.NamespacedName{Namespace: "default", Name: "pod"}
	over := 0
	done := func() { over++ }
	r.Expect("move-1", Guest{Pod: pod, Open: shouting, Done: done})
	r.Expect("move-1", Guest{Pod: pod, Open: shouting, Done: done})
	r.Expect("move-2", Guest{Pod: types.NamespacedName{Name: "other"}, Open: shouting, Done: done})
	r.Forget(pod)
	if over != 2 {
		t.Errorf("told %d times that a guest is not expected any more, want once for each announcement but the last", over)
	}
	if r.Expects("move-1") || !r.Expects("move-2") {
		t.Error("forgot the wrong one")
	}
}

// What is in the way of the sockets is removed, and only that.
func TestTunnelReplacesSockets(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(outside, []byte("x"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, "memory")))
	f, err := beneath.OpenDir(dir)
	must(t, err)
	tunnel, err := OpenTunnel(t.Context(), f, os.Getuid(), Route{})
	must(t, err)
	defer tunnel.Close()
	info, err := os.Lstat(filepath.Join(dir, "memory"))
	must(t, err)
	if info.Mode().Type() != os.ModeSocket {
		t.Errorf("memory is %v", info.Mode())
	}
	if raw, err := os.ReadFile(outside); err != nil || string(raw) != "x" {
		t.Errorf("the file outside: %q, %v", raw, err)
	}
}

func FuzzHello(f *testing.F) {
	line, err := hello{MigrationUID: "move-1", Stream: Memory}.line()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{line, []byte("\n"), []byte("{}\n"), []byte(`{"migrationUID":"x","stream":"disk"}` + "\n"), bytes.Repeat([]byte("x"), 600)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := readHello(bufio.NewReaderSize(bytes.NewReader(raw), maxHello))
		if err == nil && (h.MigrationUID == "" || h.Stream != Libvirt && h.Stream != Memory && h.Stream != NBD) {
			t.Errorf("%q gave %+v", raw, h)
		}
	})
}
