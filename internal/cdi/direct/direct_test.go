package direct

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
)

func identity(t *testing.T) *Identity {
	t.Helper()
	i, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// greet has a client say hello to a server over TLS, and gives what either makes of it.
func greet(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.WriteString(conn, "hello")
			conn.Close()
		}
		served <- err
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, client)
	if clientErr = conn.Handshake(); clientErr == nil {
		_, clientErr = io.ReadAll(conn)
	}
	raw.Close()
	return clientErr, <-served
}

func TestOnlyThisServer(t *testing.T) {
	server, client := identity(t), identity(t)
	config := &tls.Config{Certificates: []tls.Certificate{server.certificate}}
	if err, _ := greet(t, client.Config(server.Fingerprint), config); err != nil {
		t.Errorf("the server itself: %v", err)
	}
	for name, expected := range map[string]string{"another key": client.Fingerprint, "none": "", "half of it": server.Fingerprint[:20]} {
		if err, _ := greet(t, client.Config(expected), config); err == nil || !strings.Contains(err.Error(), "somebody else than the upload server") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGuests(t *testing.T) {
	guests, first := &Guests{}, identity(t)
	leaf := first.certificate.Leaf
	if guests.Know(leaf) {
		t.Error("nobody is let in at first")
	}
	for range 2 {
		if err := guests.Admit(first.Fingerprint); err != nil {
			t.Fatal(err)
		}
	}
	if !guests.Know(leaf) || guests.Know(identity(t).certificate.Leaf) {
		t.Error("who was let in is known, others are not")
	}
	for range most - 1 {
		if err := guests.Admit(identity(t).Fingerprint); err != nil {
			t.Fatal(err)
		}
	}
	late := identity(t)
	if err := guests.Admit(late.Fingerprint); err == nil || guests.Know(late.certificate.Leaf) || !guests.Know(leaf) {
		t.Errorf("one too many: %v", err)
	}
}

func TestAdmitReadsFingerprintsOnly(t *testing.T) {
	guests := &Guests{}
	good := identity(t).Fingerprint
	for _, text := range []string{"", "sha256/", good + "AAAA", strings.TrimPrefix(good, prefix), "sha256/!!", "sha1/" + good, good[:30]} {
		if err := guests.Admit(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if len(guests.keys) != 0 {
		t.Errorf("%d guests", len(guests.keys))
	}
}

func FuzzAdmit(f *testing.F) {
	f.Add("sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Add("sha256/")
	f.Fuzz(func(t *testing.T, text string) {
		guests := &Guests{}
		if err := guests.Admit(text); (err == nil) != (len(guests.keys) == 1) || err == nil && len(text) > 60 {
			t.Errorf("%q: %v, %d guests", text, err, len(guests.keys))
		}
	})
}
