package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxConnections bounds the calls a launcher serves at once; further callers wait in the listen queue.
	maxConnections = 64
	// requestTimeout is how long a caller may take to send its request.
	requestTimeout = 10 * time.Second
	// writeTimeout is how long a caller may take to read a reply before it counts as gone.
	writeTimeout = 30 * time.Second
)

// Handler answers calls by method.
type Handler map[Method]HandlerFunc

// HandlerFunc answers one call. An error it returns goes to the caller, as it is when it is an *Error, else as CodeInternal.
// The context ends when the caller closes the connection or the server stops.
type HandlerFunc func(ctx context.Context, call *Call) error

// Call is one connection's request.
type Call struct {
	Method Method
	Params json.RawMessage
	// Files came beside the request. Those that a HandlerFunc leaves here are closed after it.
	Files []*os.File

	conn    *net.UnixConn
	replied bool
}

// Decode reads the parameters.
func (c *Call) Decode(params any) error {
	if len(c.Params) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.Params, params); err != nil {
		return &Error{Code: CodeInvalid, Message: fmt.Sprintf("%s: cannot read the parameters: %v", c.Method, err)}
	}
	return nil
}

// TakeFiles hands the request's descriptors over to the caller of TakeFiles.
func (c *Call) TakeFiles() []*os.File {
	files := c.Files
	c.Files = nil
	return files
}

// Reply sends one frame; streams call it many times. files stay the caller's.
func (c *Call) Reply(result any, files ...*os.File) error {
	reply := Reply{}
	if result != nil {
		raw, err := json.Marshal(result)
		if err != nil {
			return fmt.Errorf("encode result: %w", err)
		}
		reply.Result = raw
	}
	return c.send(reply, files)
}

func (c *Call) send(reply Reply, files []*os.File) error {
	c.replied = true
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	return writeFrame(c.conn, reply, files)
}

// Unary makes a HandlerFunc of a function with parameters and a result.
func Unary[P, R any](fn func(ctx context.Context, params P) (R, error)) HandlerFunc {
	return func(ctx context.Context, call *Call) error {
		var params P
		if err := call.Decode(&params); err != nil {
			return err
		}
		result, err := fn(ctx, params)
		if err != nil {
			return err
		}
		return call.Reply(result)
	}
}

// Getter makes a HandlerFunc of a function with a result only.
func Getter[R any](fn func(ctx context.Context) (R, error)) HandlerFunc {
	return Unary(func(ctx context.Context, _ struct{}) (R, error) { return fn(ctx) })
}

// Action makes a HandlerFunc of a function with parameters only.
func Action[P any](fn func(ctx context.Context, params P) error) HandlerFunc {
	return func(ctx context.Context, call *Call) error {
		var params P
		if err := call.Decode(&params); err != nil {
			return err
		}
		if err := fn(ctx, params); err != nil {
			return err
		}
		return call.Reply(nil)
	}
}

// File makes a HandlerFunc of a function that answers with a descriptor, which is closed once it is sent.
func File[P any](fn func(ctx context.Context, params P) (*os.File, error)) HandlerFunc {
	return func(ctx context.Context, call *Call) error {
		var params P
		if err := call.Decode(&params); err != nil {
			return err
		}
		file, err := fn(ctx, params)
		if err != nil {
			return err
		}
		defer file.Close()
		return call.Reply(nil, file)
	}
}

// Serve answers calls on listener until ctx ends, then closes the listener and waits for the calls under way.
// It returns nil when ctx ended it.
func Serve(ctx context.Context, listener *net.UnixListener, handler Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var calls sync.WaitGroup
	defer calls.Wait()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	slots := make(chan struct{}, maxConnections)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := listener.AcceptUnix()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if temporary(err) {
				continue // the peer went away before we got to it
			}
			cancel()
			return fmt.Errorf("accept calls: %w", err)
		}
		calls.Go(func() {
			defer func() { <-slots }()
			ServeConn(ctx, conn, handler)
		})
	}
}

func temporary(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// ServeConn answers the one call of a connection and closes it.
func ServeConn(ctx context.Context, conn *net.UnixConn, handler Handler) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var request Request
	files, err := readFrame(conn, &request)
	call := &Call{Method: request.Method, Params: request.Params, Files: files, conn: conn}
	defer func() { closeAll(call.Files) }()
	if err != nil {
		_ = call.send(Reply{Error: &Error{Code: CodeInvalid, Message: err.Error()}}, nil)
		return
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil || ctx.Err() != nil {
		return
	}
	go watchPeer(conn, cancel)
	if err := dispatch(ctx, call, request.Version, handler); err != nil {
		_ = call.send(Reply{Error: asError(err)}, nil)
		return
	}
	if !call.replied {
		_ = call.Reply(nil)
	}
}

// watchPeer ends the call when the caller has closed the connection. A caller that sends more than its request is ended too.
func watchPeer(conn *net.UnixConn, cancel context.CancelFunc) {
	defer cancel()
	var one [1]byte
	_, _ = conn.Read(one[:])
}

func dispatch(ctx context.Context, call *Call, version int, handler Handler) error {
	if version > Version {
		return &Error{Code: CodeInvalid, Message: fmt.Sprintf(
			"this launcher speaks protocol version %d, not %d; restart or migrate the virtual machine to get a newer launcher", Version, version)}
	}
	fn, ok := handler[call.Method]
	if !ok {
		return &Error{Code: CodeInvalid, Message: fmt.Sprintf(
			"this launcher does not know the call %q; restart or migrate the virtual machine to get a newer launcher", call.Method)}
	}
	return fn(ctx, call)
}

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		// What was wrapped around it says where it happened.
		if msg := err.Error(); msg != e.Message {
			return &Error{Code: e.Code, Message: msg, Disk: e.Disk}
		}
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}
