package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// socketpair returns both ends of a stream socket.
func socketpair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 0, 2)
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, conn.(*net.UnixConn))
	}
	t.Cleanup(func() { _ = ends[0].Close(); _ = ends[1].Close() })
	return ends[0], ends[1]
}

// serveEach returns a client each of whose connections is a socketpair served by handler.
func serveEach(t testing.TB, handler Handler) *Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return NewClient(func(context.Context) (*net.UnixConn, error) {
		a, b := socketpair(t)
		go ServeConn(ctx, b, handler)
		return a, nil
	})
}

func TestCallsCarryParametersAndResults(t *testing.T) {
	client := serveEach(t, Handler{
		MethodInfo: Getter(func(context.Context) (Info, error) { return Info{Version: 1, LauncherVersion: "x"}, nil }),
		MethodPrepare: Unary(func(_ context.Context, r PrepareRequest) (PrepareResult, error) {
			return PrepareResult{Disks: []DiskFacts{{Name: r.Disks[0].Name, VirtualSize: 7}}}, nil
		}),
		MethodShutdown: Action(func(_ context.Context, r ShutdownRequest) error {
			if !r.Agent {
				return errors.New("parameters were lost")
			}
			return nil
		}),
	})
	ctx := context.Background()
	info, err := client.Info(ctx)
	if err != nil || info.LauncherVersion != "x" {
		t.Fatalf("Info = %+v, %v", info, err)
	}
	prepared, err := client.Prepare(ctx, PrepareRequest{Disks: []DiskSpec{{Name: "root"}}})
	if err != nil || prepared.Disks[0].Name != "root" || prepared.Disks[0].VirtualSize != 7 {
		t.Fatalf("Prepare = %+v, %v", prepared, err)
	}
	if err := client.Shutdown(ctx, ShutdownRequest{Agent: true}); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	client := serveEach(t, Handler{
		MethodDestroy: Getter(func(context.Context) (State, error) {
			return State{}, &Error{Code: CodeNotFound, Message: "no domain runs", Disk: "root"}
		}),
		MethodReset: Getter(func(context.Context) (State, error) { return State{}, errors.New("odd") }),
	})
	_, err := client.Destroy(context.Background())
	if CodeOf(err) != CodeNotFound || err.Error() != "no domain runs" {
		t.Fatalf("Destroy: %v (%q)", err, CodeOf(err))
	}
	if _, err = client.Reset(context.Background()); CodeOf(err) != CodeInternal {
		t.Fatalf("Reset: %v (%q)", err, CodeOf(err))
	}
	if err = client.Thaw(context.Background()); CodeOf(err) != CodeInvalid || !strings.Contains(err.Error(), `"thaw"`) {
		t.Fatalf("a call the launcher does not know: %v", err)
	}
}

func TestDescriptorsTravelBothWays(t *testing.T) {
	client := serveEach(t, Handler{
		MethodStart: func(_ context.Context, call *Call) error {
			files := call.TakeFiles()
			defer closeAll(files)
			if len(files) != 2 {
				return errors.New("descriptors were lost")
			}
			for _, f := range files {
				if _, err := f.WriteString("hello"); err != nil {
					return err
				}
			}
			return call.Reply(State{State: StateRunning})
		},
		MethodVNC: File(func(context.Context, struct{}) (*os.File, error) {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			defer w.Close()
			_, err = w.WriteString("RFB")
			return r, err
		}),
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	roles := []SocketRole{{Kind: "dhcp4"}, {Kind: "ra"}}
	// A large document makes the frame cross several sends, the descriptors must come once.
	request := StartRequest{XML: strings.Repeat("x", 1<<20), Sockets: roles}
	if _, err := client.Start(context.Background(), request, w, w); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if got, _ := io.ReadAll(r); string(got) != "hellohello" {
		t.Fatalf("read %q through the passed descriptors", got)
	}
	if _, err := client.Start(context.Background(), request); err == nil {
		t.Fatal("a start without its sockets must fail")
	}
	vnc, err := client.VNC(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer vnc.Close()
	if got, _ := io.ReadAll(vnc); string(got) != "RFB" {
		t.Fatalf("read %q from the received descriptor", got)
	}
}

func TestWatchEndsWithContextCallbackAndServer(t *testing.T) {
	ended := make(chan struct{}, 2)
	client := serveEach(t, Handler{
		MethodWatch: func(ctx context.Context, call *Call) error {
			if err := call.Reply(Event{State: State{State: StateRunning}}); err != nil {
				return err
			}
			<-ctx.Done()
			ended <- struct{}{}
			return nil
		},
		MethodMigrate: func(_ context.Context, call *Call) error {
			_ = call.Reply(MigrationProgress{Phase: "precopy"})
			return call.Reply(MigrationProgress{Phase: "done", Done: true})
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	err := client.Watch(ctx, func(Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled watch: %v", err)
	}
	<-ended
	stop := errors.New("enough")
	if err := client.Watch(context.Background(), func(Event) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("watch ended by its callback: %v", err)
	}
	<-ended
	phases := ""
	err = client.Migrate(context.Background(), MigrateRequest{}, func(p MigrationProgress) error { phases += p.Phase + " "; return nil })
	if err != nil || phases != "precopy done " {
		t.Fatalf("migrate: %q, %v", phases, err)
	}
}

func TestALauncherThatGoesAwayIsTold(t *testing.T) {
	client := NewClient(func(context.Context) (*net.UnixConn, error) {
		a, b := socketpair(t)
		_ = b.Close()
		return a, nil
	})
	if _, err := client.State(context.Background()); err == nil {
		t.Fatal("no error from a closed launcher")
	}
	client = NewClient(func(context.Context) (*net.UnixConn, error) {
		a, b := socketpair(t)
		go func() {
			var request Request
			_, _ = readFrame(b, &request)
			_ = b.Close()
		}()
		return a, nil
	})
	if _, err := client.State(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("error %v is not ErrClosed", err)
	}
}

func TestServeOnASocketWaitsForItsCalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var calls bytes.Buffer
	served := make(chan error, 1)
	go func() {
		served <- Serve(ctx, listener, Handler{MethodQuit: Action(func(ctx context.Context, _ struct{}) error {
			cancel()
			<-ctx.Done()
			calls.WriteString("quit")
			return nil
		})})
	}()
	if err := Dial(path).Quit(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if calls.String() != "quit" {
		t.Fatal("Serve returned before its call did")
	}
	if _, err := Dial(path).Info(context.Background()); err == nil {
		t.Fatal("the socket still answers")
	}
}

func TestFramesAreBounded(t *testing.T) {
	a, b := socketpair(t)
	header := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	if _, err := a.Write(header); err != nil {
		t.Fatal(err)
	}
	var request Request
	if _, err := readFrame(b, &request); !errors.Is(err, errFrameTooLarge) {
		t.Fatalf("an announced frame of %d bytes: %v", MaxFrame+1, err)
	}
	if err := writeFrame(a, XML{XML: strings.Repeat("x", MaxFrame)}, nil); !errors.Is(err, errFrameTooLarge) {
		t.Fatalf("sending too large a frame: %v", err)
	}
	files := make([]*os.File, MaxFiles+1)
	if err := writeFrame(a, Info{}, files); err == nil {
		t.Fatal("sending too many descriptors must fail")
	}
}

func TestACancelledCallReturnsAtOnce(t *testing.T) {
	client := serveEach(t, Handler{MethodState: func(ctx context.Context, _ *Call) error { <-ctx.Done(); return ctx.Err() }})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := client.State(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v is not the context's", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x20{\"version\":1,\"method\":\"watch\"}  "))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		a, b := socketpair(t)
		if _, err := a.Write(data); err != nil {
			t.Fatal(err)
		}
		_ = a.CloseWrite()
		var request Request
		files, err := readFrame(b, &request)
		if err != nil && files != nil {
			t.Fatal("descriptors leak with an error")
		}
		closeAll(files)
	})
}
