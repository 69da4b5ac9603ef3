package linger

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// much is more than the kernel keeps for both ends of a connection.
const much = 64 << 20

// A client that reads nothing before it has sent everything is told why it was refused.
func TestTheAnswerGetsThrough(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, r := Begin(w, r)
		_, _ = io.CopyN(io.Discard, r.Body, 1)
		Text(w, http.StatusBadRequest, "no")
		x.End(Patience)
	}))
	defer server.Close()
	conn := dial(t, server)
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", much); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, much)); err != nil {
		t.Fatalf("the body: %v", err)
	}
	if code, text := read(t, conn); code != http.StatusBadRequest || text != "no" {
		t.Errorf("%d %q", code, text)
	}
}

// A client that takes the answer and says no more does not hold the server.
func TestPatienceEnds(t *testing.T) {
	ended := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		x, r := Begin(w, r)
		_, _ = io.CopyN(io.Discard, r.Body, 1)
		Text(w, http.StatusBadRequest, "no")
		x.End(time.Millisecond)
	}))
	defer server.Close()
	conn := dial(t, server)
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nx", much); err != nil {
		t.Fatal(err)
	}
	if code, text := read(t, conn); code != http.StatusBadRequest || text != "no" {
		t.Errorf("%d %q", code, text)
	}
	<-ended
}

// A client that waits to be asked for its body is not asked for one that nobody wants.
func TestWhoWaitsIsNotAsked(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x, _ := Begin(w, r)
		Text(w, http.StatusConflict, "no")
		x.End(Patience)
	}))
	defer server.Close()
	conn := dial(t, server)
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", much); err != nil {
		t.Fatal(err)
	}
	if code, _ := read(t, conn); code != http.StatusConflict {
		t.Errorf("%d", code)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("more than the answer came")
	}
}

func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	transport, ok := server.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("the test server's client has another transport")
	}
	conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func read(t *testing.T, conn net.Conn) (int, string) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
