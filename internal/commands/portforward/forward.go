package portforward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
	"virtctl/internal/commands/terminal"
)

// forwarder carries connections to one machine.
type forwarder struct {
	streams *terminal.Streams
	client  *client.Client
	target  client.Target
}

func (f *forwarder) open(ctx context.Context, p port) (*client.Stream, error) {
	stream, err := f.client.Stream(ctx, f.target, p.subresource(), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot reach port %d of %s: %w", p.remote, word(f.target), target.Explain(ctx, f.client, f.target, err))
	}
	return stream, nil
}

// stdio carries one connection over the standard streams.
func (f *forwarder) stdio(ctx context.Context, p port) error {
	stream, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	done := make(chan error, 2)
	answered := make(chan struct{})
	moved := make(chan struct{}, 1)
	go func() {
		if _, err := io.Copy(stream, f.streams.In); err != nil {
			done <- err
			return
		}
		// When the input ends the answer may still be on its way.
		f.lastWords(ctx, moved, answered)
		done <- nil
	}()
	go func() {
		defer close(answered)
		_, err := io.Copy(&noticed{f.streams.Out, moved}, stream)
		done <- err
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-done:
		return err
	}
}

// exists refuses a machine that does not exist at once: nobody waits for a connection to it. One that does not run yet may be waited
// for, and whoever may only forward ports, and not look, goes on.
func (f *forwarder) exists(ctx context.Context) error {
	var err error
	if f.target.Resource == target.VM {
		_, err = f.client.VMs(f.target.Namespace).Get(ctx, f.target.Name)
	} else {
		_, err = f.client.VMIs(f.target.Namespace).Get(ctx, f.target.Name)
	}
	if err == nil {
		return nil
	}
	err = target.Explain(ctx, f.client, f.target, err)
	switch problem.CodeOf(err) {
	case problem.Forbidden, problem.Conflict:
		return nil
	}
	return fmt.Errorf("cannot forward ports of %s: %w", word(f.target), err)
}

// listen opens all local ports before it accepts anything, so that a port in use is an error at once.
func (f *forwarder) listen(ctx context.Context, address string, ports []port) error {
	if err := f.exists(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var serving sync.WaitGroup
	for _, p := range ports {
		at := net.JoinHostPort(address, strconv.Itoa(int(p.local)))
		serve := f.tcp
		if p.protocol == "udp" {
			serve = f.udp
		}
		run, where, err := serve(ctx, at, p)
		if err != nil {
			return fmt.Errorf("cannot listen at %s: %w; choose another local port, or 0 for any", at, err)
		}
		f.streams.Print("forwarding %s %s to %d\n", p.protocol, where, p.remote)
		serving.Go(func() {
			if err := run(); err != nil {
				stop(err)
			}
		})
	}
	<-ctx.Done()
	serving.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return problem.Silent(problem.Interrupted)
}

func (f *forwarder) tcp(ctx context.Context, at string, p port) (run func() error, where string, err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		return nil, "", err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	return func() error {
		for {
			conn, err := listener.Accept()
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("accept at %s: %w", listener.Addr(), err)
			}
			go f.carry(ctx, conn, p)
		}
	}, listener.Addr().String(), nil
}

// carry joins one local connection with one to the machine. A failure is this connection's alone.
func (f *forwarder) carry(ctx context.Context, conn net.Conn, p port) {
	defer func() { _ = conn.Close() }()
	stream, err := f.open(ctx, p)
	if err != nil {
		f.streams.Say("connection from %s: %s\n", conn.RemoteAddr(), err)
		return
	}
	defer func() { _ = stream.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close(); _ = stream.Close() })
	defer stop()
	answered := make(chan struct{})
	moved := make(chan struct{}, 1)
	go func() {
		defer close(answered)
		_, _ = io.Copy(&noticed{conn, moved}, stream)
		_ = conn.Close()
	}()
	if _, err := io.Copy(stream, conn); err == nil {
		f.lastWords(ctx, moved, answered)
	}
	_ = stream.Close()
	<-answered
}

// lastWords waits for what the machine still has to say after the client has finished. The stream has no half close, so that
// "finished sending" and "gone" look the same: silence decides.
func (f *forwarder) lastWords(ctx context.Context, moved <-chan struct{}, answered <-chan struct{}) {
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-answered:
			return
		case <-timer.C:
			return
		case <-moved:
			timer.Reset(silence)
		}
	}
}

// silence is how long a machine may keep silent after its client has finished before the connection is closed.
const silence = 5 * time.Second

// noticed is a writer that tells of each write.
type noticed struct {
	io.Writer
	moved chan<- struct{}
}

func (n *noticed) Write(p []byte) (int, error) {
	select {
	case n.moved <- struct{}{}:
	default:
	}
	return n.Writer.Write(p)
}
