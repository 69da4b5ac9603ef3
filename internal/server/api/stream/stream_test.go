package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// link makes a websocket and gives both its ends.
func link(t *testing.T) (server, client *websocket.Conn) {
	t.Helper()
	ends := make(chan *websocket.Conn, 1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		ends <- c
	}))
	t.Cleanup(web.Close)
	client, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http"), nil) //nolint:bodyclose // hijacked
	if err != nil {
		t.Fatal(err)
	}
	server = <-ends
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return server, client
}

type result struct {
	done chan error
	stop chan struct{}
}

// session relays between a user and an agent, and gives the far ends.
func session(t *testing.T) (user, agent *websocket.Conn, r result) {
	t.Helper()
	nearUser, user := link(t)
	nearAgent, agent := link(t)
	r = result{make(chan error, 1), make(chan struct{})}
	nobody := func(context.Context, string) (*websocket.Conn, error) { return nil, errors.New("nobody comes") }
	go func() { r.done <- Relay(nearUser, nearAgent, nobody, r.stop) }()
	return user, agent, r
}

func closeCode(t *testing.T, c *websocket.Conn) *websocket.CloseError {
	t.Helper()
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			var said *websocket.CloseError
			if !errors.As(err, &said) {
				t.Fatalf("no goodbye: %v", err)
			}
			return said
		}
	}
}

// send writes a message while the test reads it at the other end; a connection takes one writer at a time.
func send(c *websocket.Conn, payload []byte) <-chan error {
	sent := make(chan error, 1)
	go func() { sent <- c.WriteMessage(websocket.BinaryMessage, payload) }()
	return sent
}

func TestRelayCarriesBothWays(t *testing.T) {
	user, agent, _ := session(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for _, payload := range [][]byte{[]byte("x"), {}, big} {
		sent := send(user, payload)
		if kind, got, err := agent.ReadMessage(); err != nil || kind != websocket.BinaryMessage || !bytes.Equal(got, payload) {
			t.Fatalf("to the agent: %d bytes of kind %d, %v", len(got), kind, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		sent = send(agent, payload)
		if _, got, err := user.ReadMessage(); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("to the user: %d bytes, %v", len(got), err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// A console that ends must look like an end, and one that was taken over or broke must not.
func TestRelayPassesTheGoodbyeOn(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(agent *websocket.Conn)
		code int
		text string
	}{
		{"end", func(a *websocket.Conn) { say(a, websocket.CloseNormalClosure, "") }, websocket.CloseNormalClosure, ""},
		{"end without a code", func(a *websocket.Conn) { _ = a.WriteControl(websocket.CloseMessage, nil, time.Time{}) }, websocket.CloseNormalClosure, ""},
		{"taken over", func(a *websocket.Conn) { say(a, websocket.ClosePolicyViolation, "another session") }, websocket.ClosePolicyViolation, "another session"},
		{"broken", func(a *websocket.Conn) { _ = a.Close() }, websocket.CloseInternalServerErr, "connection lost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			user, agent, r := session(t)
			tc.end(agent)
			said := closeCode(t, user)
			if said.Code != tc.code || said.Text != tc.text {
				t.Errorf("the user was told %d %q", said.Code, said.Text)
			}
			err := <-r.done
			if (err == nil) != (tc.code == websocket.CloseNormalClosure) {
				t.Errorf("relay: %v", err)
			}
		})
	}
	t.Run("user leaves", func(t *testing.T) {
		user, agent, r := session(t)
		say(user, websocket.CloseNormalClosure, "")
		if said := closeCode(t, agent); said.Code != websocket.CloseNormalClosure {
			t.Errorf("the agent was told %v", said)
		}
		if err := <-r.done; err != nil {
			t.Error(err)
		}
	})
	t.Run("server restarts", func(t *testing.T) {
		user, _, r := session(t)
		close(r.stop)
		if said := closeCode(t, user); said.Code != websocket.CloseServiceRestart {
			t.Errorf("the user was told %v", said)
		}
		if err := <-r.done; err != nil {
			t.Error(err)
		}
	})
}

func say(c *websocket.Conn, code int, text string) {
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Time{})
}

// Load balancers cut connections on which nothing moves.
func TestIdleSessionsArePinged(t *testing.T) {
	near, far := link(t)
	pings := make(chan struct{}, 4)
	far.SetPingHandler(func(string) error { pings <- struct{}{}; return nil })
	go func() { _, _, _ = far.ReadMessage() }()
	done := make(chan struct{})
	defer close(done)
	ticks := make(chan time.Time)
	go pinger(near, ticks, done)
	for range 2 {
		ticks <- time.Time{}
		<-pings
	}
}

func echo(t *testing.T) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		c, err := listener.Accept()
		if err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestForwardTCP(t *testing.T) {
	near, user := link(t)
	guest := echo(t)
	done := make(chan error, 1)
	go func() { done <- Forward(near, guest, nil) }()
	// Text messages are no part of the stream.
	_ = user.WriteMessage(websocket.TextMessage, []byte("noise"))
	_ = user.WriteMessage(websocket.BinaryMessage, []byte("hello"))
	if kind, got, err := user.ReadMessage(); err != nil || kind != websocket.BinaryMessage || string(got) != "hello" {
		t.Fatalf("%q %v", got, err)
	}
	_ = guest.(*net.TCPConn).CloseWrite()
	if said := closeCode(t, user); said.Code != websocket.CloseNormalClosure {
		t.Errorf("at the guest's end: %v", said)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestForwardUDPKeepsDatagrams(t *testing.T) {
	far, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	guest, err := net.Dial("udp", far.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, user := link(t)
	go func() { _ = Forward(near, guest, nil) }()
	buffer := make([]byte, 2048)
	for _, size := range []int{1, 1400, 3} {
		_ = user.WriteMessage(websocket.BinaryMessage, bytes.Repeat([]byte("u"), size))
		n, from, err := far.ReadFromUDP(buffer)
		if err != nil || n != size {
			t.Fatalf("a datagram of %d arrived as %d: %v", size, n, err)
		}
		_, _ = far.WriteToUDP(buffer[:n], from)
		if _, got, err := user.ReadMessage(); err != nil || len(got) != size {
			t.Fatalf("a datagram of %d came back as %d: %v", size, len(got), err)
		}
	}
}
