package stream

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"virtctl/internal/server/handover"
)

// leave plays an agent that hands its stream over: it takes what still comes until it is answered.
func leave(t *testing.T, agent *websocket.Conn, key string) []byte {
	t.Helper()
	if err := agent.WriteControl(websocket.CloseMessage, handover.Close(key), time.Time{}); err != nil {
		t.Fatal(err)
	}
	var last []byte
	for {
		_, message, err := agent.ReadMessage()
		if err != nil {
			if !handover.Answered(err) {
				t.Errorf("the agent's answer: %v", err)
			}
			_ = agent.Close()
			return last
		}
		last = append(last, message...)
	}
}

func hear(t *testing.T, c *websocket.Conn, want string) {
	t.Helper()
	if _, got, err := c.ReadMessage(); err != nil || string(got) != want {
		t.Fatalf("heard %q, %v, want %q", got, err, want)
	}
}

func tell(t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	if err := c.WriteMessage(websocket.BinaryMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// What a client types while its agent is replaced reaches the next one, in order, and the client notices nothing.
func TestStreamsAreHandedOver(t *testing.T) {
	nearUser, user := link(t)
	nearFirst, first := link(t)
	nearSecond, second := link(t)
	nearThird, third := link(t)
	successors := map[string]*websocket.Conn{"one": nearSecond, "two": nearThird}
	came := make(chan struct{})
	resume := func(_ context.Context, key string) (*websocket.Conn, error) {
		<-came
		next, ok := successors[key]
		if !ok {
			return nil, errors.New("no such key")
		}
		return next, nil
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- Relay(nearUser, nearFirst, resume, stop) }()

	tell(t, user, "before")
	hear(t, first, "before")
	tell(t, first, "answer")
	if rest := leave(t, first, "one"); len(rest) > 0 {
		t.Errorf("the first agent got %q, which nobody had sent", rest)
	}
	hear(t, user, "answer")
	tell(t, user, "meanwhile")
	close(came)
	hear(t, second, "meanwhile")
	tell(t, second, "back")
	hear(t, user, "back")

	leave(t, second, "two")
	tell(t, user, "and again")
	hear(t, third, "and again")
	say(third, websocket.CloseNormalClosure, "")
	if said := closeCode(t, user); said.Code != websocket.CloseNormalClosure {
		t.Errorf("the user was told %v", said)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Messages under way when the stream is handed over go to one agent or the other, whole.
func TestHandoverLosesNothing(t *testing.T) {
	nearUser, user := link(t)
	nearFirst, first := link(t)
	nearSecond, second := link(t)
	resume := func(context.Context, string) (*websocket.Conn, error) { return nearSecond, nil }
	go func() { _ = Relay(nearUser, nearFirst, resume, make(chan struct{})) }()
	const count = 2000
	var sent []byte
	for n := range count {
		sent = append(sent, byte(n), byte(n>>8))
	}
	go func() {
		for pair := range slices.Chunk(sent, 2) {
			if user.WriteMessage(websocket.BinaryMessage, pair) != nil {
				return
			}
		}
	}()
	var got []byte
	for range count / 10 {
		_, message, err := first.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, message...)
	}
	got = append(got, leave(t, first, "key")...)
	for len(got) < len(sent) {
		_, message, err := second.ReadMessage()
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		got = append(got, message...)
	}
	if !bytes.Equal(got, sent) {
		t.Error("what arrived is not what was sent")
	}
}

func TestNobodyTakesOver(t *testing.T) {
	user, agent, r := session(t)
	leave(t, agent, "key")
	if said := closeCode(t, user); said.Code != websocket.CloseInternalServerErr {
		t.Errorf("the user was told %v", said)
	}
	if err := <-r.done; err == nil {
		t.Error("the session ended as if nothing had happened")
	}
}

// A virt-api that ends meanwhile does not wait for an agent that may never come.
func TestStopWhileNobodyIsThere(t *testing.T) {
	nearUser, user := link(t)
	nearAgent, agent := link(t)
	stop, done := make(chan struct{}), make(chan error, 1)
	waiting := make(chan struct{})
	go func() {
		done <- Relay(nearUser, nearAgent, func(ctx context.Context, _ string) (*websocket.Conn, error) {
			close(waiting)
			<-ctx.Done()
			return nil, ctx.Err()
		}, stop)
	}()
	leave(t, agent, "key")
	<-waiting
	close(stop)
	if said := closeCode(t, user); said.Code != websocket.CloseServiceRestart {
		t.Errorf("the user was told %v", said)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
