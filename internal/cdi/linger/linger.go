// Package linger gets an answer through to a client that is still sending.
//
// Who answers in the middle of a large body and closes the connection has the kernel reset it, and what the client has not read by then is
// lost: it sees a broken line instead of the reason, and sends everything again. So the answer is sent whole, and what still comes is read and
// thrown away until the client has understood, which it shows by ending the connection.
package linger

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Patience is how long a client may go on sending after it was answered.
const Patience = 10 * time.Second

// Exchange is a request that may be answered before it has come whole.
type Exchange struct {
	w    http.ResponseWriter
	body *body
	// expects says that the client waits to be asked for its body.
	expects bool
}

// Begin comes before anything is read or written. The request it gives is what the handler uses: closing its body leaves the rest to be read.
// The server's own is not touched, for it looks at its body to know what became of it.
func Begin(w http.ResponseWriter, r *http.Request) (*Exchange, *http.Request) {
	x := &Exchange{w: w, expects: r.Header.Get("Expect") != ""}
	if r.Body == nil || r.Body == http.NoBody {
		return x, r
	}
	// HTTP/2 can read after it has written anyway, and says that it knows no such setting.
	_ = http.NewResponseController(w).EnableFullDuplex()
	x.body = &body{ReadCloser: r.Body}
	own := r.WithContext(r.Context())
	own.Body = x.body
	return x, own
}

// End sends what was answered and reads the rest of the body, for limit at most. A client that waits to be asked for its body and was not
// asked sends nothing.
func (x *Exchange) End(limit time.Duration) {
	if x.body == nil || x.expects && !x.body.begun.Load() {
		return
	}
	control := http.NewResponseController(x.w)
	if err := control.Flush(); err != nil {
		return
	}
	// A deadline set now could be put off by who still reads elsewhere.
	end := time.AfterFunc(limit, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })
	defer end.Stop()
	_, _ = io.Copy(io.Discard, x.body.ReadCloser)
}

// body is a request's body for its handler.
type body struct {
	io.ReadCloser
	begun, closed atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.begun.Store(true)
	return b.ReadCloser.Read(p)
}

// Close is done by the server when the request ends.
func (b *body) Close() error {
	b.closed.Store(true)
	return nil
}

// Text answers in words. Its length is told, so that a client knows the end of it while the connection stays open.
func Text(w http.ResponseWriter, code int, text string) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	// The client is gone when this fails; there is nobody left to tell.
	_, _ = io.WriteString(w, text)
}
