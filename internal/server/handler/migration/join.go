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

// join copies in both directions until both have ended. from is what is read instead of a, which may have been read ahead.
func join(a, b stream, from io.Reader) {
	defer a.Close()
	defer b.Close()
	var both sync.WaitGroup
	one := func(to stream, from io.Reader) {
		_, err := io.Copy(to, from)
		if err != nil {
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
