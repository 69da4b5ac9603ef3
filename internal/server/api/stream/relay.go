// Package stream carries byte streams between websockets and between a websocket and a socket.
package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"virtctl/internal/server/handover"
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

// ResumeFunc goes on with a stream that a node agent has handed over.
type ResumeFunc func(ctx context.Context, key string) (*websocket.Conn, error)

// Relay passes messages between a client and a node agent until either ends, and pings both. When the agent hands the stream over it
// goes on with the agent's successor; the client notices nothing but a pause. It closes all. The result is nil when the session ended
// as sessions do.
func Relay(client, agent *websocket.Conn, resume ResumeFunc, stop <-chan struct{}) error {
	ctx, cancel := context.WithCancel(context.Background())
	r := &relay{client: client, resume: resume, done: make(chan struct{})}
	client.SetReadLimit(maxMessage)
	go keepAlive(client, r.done)
	r.use(agent)
	results := make(chan error, 2)
	go func() { results <- r.fromClient() }()
	go func() { results <- r.fromAgent(ctx, agent) }()
	var first error
	stopped := false
	select {
	case first = <-results:
	case <-stop:
		stopped = true
	}
	close(r.done)
	cancel()
	code, text := closing(first)
	if stopped {
		code, text = websocket.CloseServiceRestart, "virt-api is restarting, connect again"
	}
	goodbye(client, code, text)
	goodbye(r.current(), code, text)
	if stopped || code == websocket.CloseNormalClosure {
		return nil
	}
	return first
}

// relay is one session of a client, with one node agent after another.
type relay struct {
	client *websocket.Conn
	resume ResumeFunc
	done   chan struct{}

	// sending is held while a message goes to the agent, and from one agent to the next.
	sending sync.Mutex
	agent   atomic.Pointer[websocket.Conn]
}

func (r *relay) current() *websocket.Conn { return r.agent.Load() }

func (r *relay) use(agent *websocket.Conn) {
	agent.SetReadLimit(maxMessage)
	echo := agent.CloseHandler()
	agent.SetCloseHandler(func(code int, text string) error {
		if _, handedOver := handover.KeyOf(code, text); handedOver {
			return nil // the answer comes behind the last message, see succeed
		}
		return echo(code, text)
	})
	r.agent.Store(agent)
	go keepAlive(agent, r.done)
}

func (r *relay) fromClient() error {
	return pass(r.client, func(kind int, message io.Reader, buffer []byte) error {
		r.sending.Lock()
		defer r.sending.Unlock()
		return forward(r.current(), kind, message, buffer)
	})
}

func (r *relay) fromAgent(ctx context.Context, agent *websocket.Conn) error {
	for {
		err := pass(agent, func(kind int, message io.Reader, buffer []byte) error {
			return forward(r.client, kind, message, buffer)
		})
		key, handedOver := handover.Key(err)
		if !handedOver {
			return err
		}
		if agent, err = r.succeed(ctx, agent, key); err != nil {
			return err
		}
	}
}

// succeed answers an agent that hands the stream over, and finds its successor. The client's messages wait meanwhile.
func (r *relay) succeed(ctx context.Context, agent *websocket.Conn, key string) (*websocket.Conn, error) {
	r.sending.Lock()
	defer r.sending.Unlock()
	_ = agent.WriteControl(websocket.CloseMessage, handover.Answer(), time.Now().Add(closeWait))
	// It closes the connection when the stream is where its successor finds it.
	conn := agent.NetConn()
	_ = conn.SetReadDeadline(time.Now().Add(closeWait))
	_, _ = io.Copy(io.Discard, conn)
	_ = agent.Close()
	next, err := r.resume(ctx, key)
	if err != nil {
		return nil, err
	}
	r.use(next)
	if ctx.Err() != nil {
		_ = next.Close() // the session has ended meanwhile, and its end knew only the old one
	}
	return next, nil
}

// pass gives each message to send. It uses the message's reader, so that a huge message costs no memory.
func pass(from *websocket.Conn, send func(kind int, message io.Reader, buffer []byte) error) error {
	buffer := make([]byte, bufferSize)
	for {
		kind, reader, err := from.NextReader()
		if err != nil {
			return err
		}
		if err := send(kind, reader, buffer); err != nil {
			return err
		}
	}
}

func forward(to *websocket.Conn, kind int, message io.Reader, buffer []byte) error {
	writer, err := to.NextWriter(kind)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(onlyWriter{writer}, onlyReader{message}, buffer); err != nil {
		return err
	}
	return writer.Close()
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
