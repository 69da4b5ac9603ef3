package dial

import (
	"context"
	"io"
	"net"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
)

// Join carries bytes between a local connection and a stream until either ends; what names the stream in the error of one that the
// server closed.
func Join(ctx context.Context, conn net.Conn, stream *client.Stream, what string) error {
	defer func() { _ = conn.Close() }()
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(stream, conn)
	}()
	go func() {
		_, err := io.Copy(conn, stream)
		ended <- err
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-done:
		return nil
	case err := <-ended:
		if said := stream.Goodbye(); said != "" && err == nil {
			return problem.New(problem.Conflict, "%s was closed: %s", what, said)
		}
		return err
	}
}
