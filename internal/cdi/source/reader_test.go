package source

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
)

// silent is an object whose connection gives nothing until it is ended.
type silent struct{ ended chan struct{} }

func (s silent) Open(ctx context.Context, _ Part, _ Info) (io.ReadCloser, Info, error) {
	return io.NopCloser(readerFunc(func([]byte) (int, error) {
		<-ctx.Done()
		close(s.ended)
		return 0, ctx.Err()
	})), Info{Size: 1, Identity: "one"}, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Whoever has seen enough closes the source while somebody else still reads ahead.
func TestCloseUnderAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		object := silent{make(chan struct{})}
		r, err := NewReader(t.Context(), object, Start{}, DefaultPolicy())
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := r.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait() // until it waits for the connection
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		<-object.ended
		if err := <-read; !errors.Is(err, errClosed) {
			t.Errorf("the reader got %v", err)
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}
