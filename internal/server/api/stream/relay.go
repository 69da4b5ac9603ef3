// Package stream carries byte streams between websockets and between a websocket and a socket.
package stream

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// pingEvery keeps idle sessions alive through load balancers, the strictest of which wait 30 seconds.
	pingEvery = 15 * time.Second
	// closeWait is how long a peer may take to read our goodbye.
	closeWait = 5 * time.Second
	// maxMessage bounds what one message may make us hold: nothing, since messages are passed on piece by piece, but a peer
	// that announces exabytes is broken.
	maxMessage = 1 << 30
	bufferSize = 16 << 10
)

// Relay passes messages between two websockets until either ends, and pings both. It closes both. The result is nil when the
// session ended as sessions do.
func Relay(a, b *websocket.Conn, stop <-chan struct{}) error {
	done := make(chan struct{})
	results := make(chan error, 2)
	for _, c := range []*websocket.Conn{a, b} {
		c.SetReadLimit(maxMessage)
		go keepAlive(c, done)
	}
	go func() { results <- pass(a, b) }()
	go func() { results <- pass(b, a) }()
	var first error
	stopped := false
	select {
	case first = <-results:
	case <-stop:
		stopped = true
	}
	close(done)
	code, text := closing(first)
	if stopped {
		code, text = websocket.CloseServiceRestart, "virt-api is restarting, connect again"
	}
	for _, c := range []*websocket.Conn{a, b} {
		goodbye(c, code, text)
	}
	if stopped || code == websocket.CloseNormalClosure {
		return nil
	}
	return first
}

// pass copies messages. It uses the message's reader, so that a huge message costs no memory.
func pass(from, to *websocket.Conn) error {
	buffer := make([]byte, bufferSize)
	for {
		kind, reader, err := from.NextReader()
		if err != nil {
			return err
		}
		writer, err := to.NextWriter(kind)
		if err != nil {
			return err
		}
		if _, err := io.CopyBuffer(onlyWriter{writer}, onlyReader{reader}, buffer); err != nil {
			return err
		}
		if err := writer.Close(); err != nil {
			return err
		}
	}
}

// onlyReader and onlyWriter keep io.CopyBuffer from using other ways than our buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// keepAlive pings a peer until the session ends. There is no deadline for the answer: whoever stopped his terminal's output
// reads nothing for an hour, and shall find his session where he left it. TCP's own keep-alive finds dead peers.
func keepAlive(c *websocket.Conn, done <-chan struct{}) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	pinger(c, tick.C, done)
}

func pinger(c *websocket.Conn, ticks <-chan time.Time, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-ticks:
			if err := c.WriteControl(websocket.PingMessage, nil, time.Time{}); err != nil {
				return
			}
		}
	}
}

// closing tells what to say to the other end when one has ended.
func closing(err error) (int, string) {
	var said *websocket.CloseError
	switch {
	case errors.As(err, &said):
		switch said.Code {
		case websocket.CloseNoStatusReceived:
			return websocket.CloseNormalClosure, ""
		case websocket.CloseAbnormalClosure, websocket.CloseTLSHandshake:
			return websocket.CloseInternalServerErr, "connection lost"
		default:
			return said.Code, said.Text
		}
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return websocket.CloseNormalClosure, ""
	default:
		return websocket.CloseInternalServerErr, "connection lost"
	}
}

func goodbye(c *websocket.Conn, code int, text string) {
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(closeWait))
	_ = c.Close()
}
