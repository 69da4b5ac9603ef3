package migration

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// stream is a connection that can be ended in one direction.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// closeWrite ends one direction of a connection that can be; net.Conn does not say which can.
func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("a %T cannot be ended in one direction", conn)
	}
	return half.CloseWrite()
}

// chunk is how much is copied at once: as much as QEMU hands over at a time.
const chunk = 128 << 10

// pump copies until from ends. It reads and writes itself: a bufio.Reader that was asked to write would do so in pieces of its own
// buffer, each of which wakes the other end.
func pump(to io.Writer, from io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, chunk))
	return err
}

// join copies in both directions until both have ended. from is what is read instead of a, which may have been read ahead.
func join(a, b stream, from io.Reader) {
	defer a.Close()
	defer b.Close()
	var both sync.WaitGroup
	one := func(to stream, from io.Reader) {
		if err := pump(to, from); err != nil {
			// A stream with a hole is of no use to either end.
			_, _ = a.Close(), b.Close()
			return
		}
		_ = to.CloseWrite()
	}
	both.Go(func() { one(b, from) })
	both.Go(func() { one(a, b) })
	both.Wait()
}
