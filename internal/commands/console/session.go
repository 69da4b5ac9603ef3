package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/terminal"
)

const (
	// escape is what Ctrl+] and Ctrl+5 send.
	escape = 0x1d
	// reconnectFor bounds how long a lost connection is tried again, stableAfter how long a session must have lasted for that.
	reconnectFor = time.Minute
	stableAfter  = 5 * time.Second
	copyBuffer   = 32 * 1024
)

// session is one use of the command: one input, one output, one or more connections after each other.
type session struct {
	streams *terminal.Streams
	options *Options
	name    string
	open    func(patience time.Duration, again bool) (*client.Stream, error)
	input   <-chan []byte
	// ended is set when the input is over.
	ended bool
}

// readInput reads in the background, for as long as the program lives: a read from a terminal cannot be called back.
func readInput(ctx context.Context, in io.Reader) <-chan []byte {
	chunks := make(chan []byte)
	go func() {
		defer close(chunks)
		for {
			chunk := make([]byte, copyBuffer)
			n, err := in.Read(chunk)
			if n > 0 {
				select {
				case chunks <- chunk[:n]:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return chunks
}

// say talks to the user, whose terminal may be in raw mode.
func (s *session) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.streams.InTTY {
		text = string(bytes.ReplaceAll([]byte(text), []byte("\n"), []byte("\r\n")))
	}
	s.streams.Say("%s", text)
}

var errEscape = errors.New("the user left the session")

func (s *session) run(ctx context.Context) error {
	stream, err := s.open(time.Duration(s.options.Timeout), false)
	if err != nil {
		return fmt.Errorf("cannot open the console of %s: %w", s.name, err)
	}
	if s.streams.InTTY {
		s.say("Successfully connected to %s console. Press Ctrl+] or Ctrl+5 to exit console.\n", s.name)
	}
	restore, err := s.streams.Raw()
	if err != nil {
		return err
	}
	defer restore()
	for {
		began := time.Now()
		err = s.converse(ctx, stream)
		_ = stream.Close()
		var closed *client.CloseError
		switch {
		case errors.Is(err, errEscape):
			s.say("\n")
			return nil
		case err == nil:
			if said := stream.Goodbye(); said != "" {
				s.say("\n%s\n", said)
			}
			return nil
		case ctx.Err() != nil, !errors.As(err, &closed):
			return err
		case !closed.Lost():
			return fmt.Errorf("the console of %s was closed: %w; open it again to have it back", s.name, err)
		case time.Since(began) < s.options.Stable:
			// Who is thrown out again and again shares the console with somebody: fighting for it helps nobody.
			return lost(s.name, err)
		}
		s.say("\n%s, connecting again\n", err)
		if stream, err = s.open(reconnectFor, true); err != nil {
			return lost(s.name, err)
		}
	}
}

func lost(name string, err error) error {
	return problem.With(problem.Unreachable, fmt.Errorf("the console of %s was lost: %w; the machine may have stopped, another user may have taken the console, or a proxy may have cut it", name, err))
}

// converse carries bytes both ways until the session ends; nil is a normal end.
func (s *session) converse(ctx context.Context, stream *client.Stream) error {
	output := make(chan error, 1)
	moved := make(chan struct{}, 1)
	go func() { output <- s.print(stream, moved) }()
	input := s.input
	if s.ended {
		input = nil
	}
	quiet, deadline := newTimer(), newTimer()
	defer quiet.Stop()
	defer deadline.Stop()
	if s.ended {
		deadline.Reset(s.patience())
	}
	// answered is true when the console has said something since the last input.
	answered := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-output:
			return err
		case <-moved:
			answered = true
			if s.ended {
				quiet.Reset(s.options.Quiet)
			}
		case <-quiet.C:
			return nil
		case <-deadline.C:
			return nil
		case chunk, more := <-input:
			if !more {
				s.ended, input = true, nil
				deadline.Reset(s.patience())
				if answered {
					quiet.Reset(s.options.Quiet)
				}
				continue
			}
			answered = false
			if err := s.send(stream, chunk); err != nil {
				return err
			}
		}
	}
}

func newTimer() *time.Timer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return timer
}

// patience is how long the answer to piped input is waited for.
func (s *session) patience() time.Duration {
	if s.options.Timeout <= 0 {
		return s.options.Quiet
	}
	return time.Duration(s.options.Timeout)
}

// send types a chunk; on a terminal the escape key ends the session.
func (s *session) send(stream io.Writer, chunk []byte) error {
	escaped := -1
	if s.streams.InTTY {
		escaped = bytes.IndexByte(chunk, escape)
	}
	if escaped >= 0 {
		chunk = chunk[:escaped]
	}
	if len(chunk) > 0 {
		if _, err := stream.Write(chunk); err != nil && escaped < 0 {
			// The reader learns how the connection ended and says it better.
			return nil
		}
	}
	if escaped >= 0 {
		return errEscape
	}
	return nil
}

// print copies what the console says and tells each time that it said something.
func (s *session) print(stream io.Reader, moved chan<- struct{}) error {
	buffer := make([]byte, copyBuffer)
	for {
		n, err := stream.Read(buffer)
		if n > 0 {
			if _, err := s.streams.Out.Write(buffer[:n]); err != nil {
				return fmt.Errorf("write the console's output: %w", err)
			}
			select {
			case moved <- struct{}{}:
			default:
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
