package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// ErrClosed is wrapped by errors of calls whose connection the launcher closed before it answered: most often it has ended.
var ErrClosed = errors.New("the launcher closed the connection")

// DialFunc opens one connection to a launcher. virt-handler opens it through a checked directory descriptor.
type DialFunc func(ctx context.Context) (*net.UnixConn, error)

// Client calls a launcher. It is safe for concurrent use; every call is a connection of its own. The context of a call bounds it
// wholly; without a deadline a call waits as long as the launcher takes. Errors the launcher reports are *Error.
type Client struct{ dial DialFunc }

// NewClient returns a client that opens connections with dial.
func NewClient(dial DialFunc) *Client { return &Client{dial: dial} }

// Dial returns a client for the socket at path. Nothing is opened before the first call.
func Dial(path string) *Client {
	return NewClient(func(ctx context.Context) (*net.UnixConn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, fmt.Errorf("connect to the launcher: %w", err)
		}
		return conn.(*net.UnixConn), nil
	})
}

// CodeOf returns the code of an error a launcher reported, or "" for every other error.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Info says who answers.
func (c *Client) Info(ctx context.Context) (Info, error) { return get[Info](ctx, c, MethodInfo, nil) }

// Prepare makes disks ready and says what they are.
func (c *Client) Prepare(ctx context.Context, r PrepareRequest) (PrepareResult, error) {
	return get[PrepareResult](ctx, c, MethodPrepare, r)
}

// Start starts the domain. sockets are those named in r.Sockets, in that order; they stay the caller's.
func (c *Client) Start(ctx context.Context, r StartRequest, sockets ...*os.File) (State, error) {
	if len(sockets) != len(r.Sockets) {
		return State{}, fmt.Errorf("start: %d sockets named, %d given", len(r.Sockets), len(sockets))
	}
	return get[State](ctx, c, MethodStart, r, sockets...)
}

// State returns the domain's state.
func (c *Client) State(ctx context.Context) (State, error) {
	return get[State](ctx, c, MethodState, nil)
}

// DomainXML returns the domain's document.
func (c *Client) DomainXML(ctx context.Context, r DomainXMLRequest) (string, error) {
	x, err := get[XML](ctx, c, MethodDomainXML, r)
	return x.XML, err
}

// Shutdown asks the guest to power off and returns at once.
func (c *Client) Shutdown(ctx context.Context, r ShutdownRequest) error {
	return c.do(ctx, MethodShutdown, r)
}

// Destroy ends QEMU now.
func (c *Client) Destroy(ctx context.Context) (State, error) {
	return get[State](ctx, c, MethodDestroy, nil)
}

// Quit makes the launcher exit.
func (c *Client) Quit(ctx context.Context) error { return c.do(ctx, MethodQuit, nil) }

// Suspend stops the guest's processors.
func (c *Client) Suspend(ctx context.Context) (State, error) {
	return get[State](ctx, c, MethodSuspend, nil)
}

// Resume lets the guest's processors run.
func (c *Client) Resume(ctx context.Context) (State, error) {
	return get[State](ctx, c, MethodResume, nil)
}

// Reset is the reset button.
func (c *Client) Reset(ctx context.Context) (State, error) {
	return get[State](ctx, c, MethodReset, nil)
}

// Reboot asks the guest to restart.
func (c *Client) Reboot(ctx context.Context) error { return c.do(ctx, MethodReboot, nil) }

// Attach plugs a device.
func (c *Client) Attach(ctx context.Context, xml string) error {
	return c.do(ctx, MethodAttach, DeviceRequest{XML: xml})
}

// Detach unplugs a device and returns when the guest has released it.
func (c *Client) Detach(ctx context.Context, xml string) error {
	return c.do(ctx, MethodDetach, DeviceRequest{XML: xml})
}

// Update changes a device.
func (c *Client) Update(ctx context.Context, xml string) error {
	return c.do(ctx, MethodUpdate, DeviceRequest{XML: xml})
}

// ResizeDisk makes a disk larger while the guest runs.
func (c *Client) ResizeDisk(ctx context.Context, r ResizeDiskRequest) error {
	return c.do(ctx, MethodResizeDisk, r)
}

// Dump writes the guest's memory to a file of the pod.
func (c *Client) Dump(ctx context.Context, path string) error {
	return c.do(ctx, MethodDump, DumpRequest{Path: path})
}

// SetVcpus plugs virtual processors.
func (c *Client) SetVcpus(ctx context.Context, count uint) error {
	return c.do(ctx, MethodSetVcpus, SetVcpusRequest{Count: count})
}

// Console returns a stream socket joined to the guest's first serial port, which begins with the recent output if replay is set.
func (c *Client) Console(ctx context.Context, replay bool) (*os.File, error) {
	return c.file(ctx, MethodConsole, ConsoleRequest{Replay: replay})
}

// VNC returns a stream socket joined to QEMU's VNC server.
func (c *Client) VNC(ctx context.Context) (*os.File, error) { return c.file(ctx, MethodVNC, nil) }

// USB returns a stream socket joined to a place for a client's USB device.
func (c *Client) USB(ctx context.Context, r USBRequest) (*os.File, error) {
	return c.file(ctx, MethodUSB, r)
}

// Park has the launcher keep a stream for whoever knows the key; it stays the caller's, too.
func (c *Client) Park(ctx context.Context, key string, stream *os.File) error {
	files, err := c.call(ctx, MethodPark, ParkRequest{Key: key}, nil, []*os.File{stream})
	closeAll(files)
	return err
}

// Unpark returns a stream that was parked.
func (c *Client) Unpark(ctx context.Context, key string) (*os.File, error) {
	return c.file(ctx, MethodUnpark, ParkRequest{Key: key})
}

// Screenshot returns a picture of the guest's first screen.
func (c *Client) Screenshot(ctx context.Context) (Blob, error) {
	return get[Blob](ctx, c, MethodScreenshot, nil)
}

// Agent runs one guest agent command and returns its JSON answer.
func (c *Client) Agent(ctx context.Context, r AgentRequest) ([]byte, error) {
	b, err := get[Blob](ctx, c, MethodAgent, r)
	return b.Data, err
}

// Freeze freezes the guest's filesystems.
func (c *Client) Freeze(ctx context.Context, r FreezeRequest) error {
	return c.do(ctx, MethodFreeze, r)
}

// Thaw undoes Freeze.
func (c *Client) Thaw(ctx context.Context) error { return c.do(ctx, MethodThaw, nil) }

// GuestInfo returns what the guest agent says.
func (c *Client) GuestInfo(ctx context.Context) (GuestInfo, error) {
	return get[GuestInfo](ctx, c, MethodGuestInfo, nil)
}

// Stats returns libvirt's counters.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return get[Stats](ctx, c, MethodStats, nil)
}

// Libvirt returns a stream socket joined to the pod's virtqemud.
func (c *Client) Libvirt(ctx context.Context) (*os.File, error) {
	return c.file(ctx, MethodLibvirt, nil)
}

// MigrationPort returns a stream socket joined to a stream of an incoming migration.
func (c *Client) MigrationPort(ctx context.Context, r MigrationPortRequest) (*os.File, error) {
	return c.file(ctx, MethodMigrationPort, r)
}

// AbortMigration ends the running migration; the guest stays here.
func (c *Client) AbortMigration(ctx context.Context) error {
	return c.do(ctx, MethodAbortMigration, nil)
}

// PostCopy switches the running migration to post-copy.
func (c *Client) PostCopy(ctx context.Context) error { return c.do(ctx, MethodPostCopy, nil) }

// Arrival gives the account of the migration that brought the guest here.
func (c *Client) Arrival(ctx context.Context) (MigrationProgress, error) {
	return get[MigrationProgress](ctx, c, MethodArrival, nil)
}

// Watch calls fn with the present state and then with every change, until fn returns an error (which Watch returns), the
// context ends, or the launcher goes away (ErrClosed).
func (c *Client) Watch(ctx context.Context, fn func(Event) error) error {
	return stream(ctx, c, MethodWatch, nil, func(e Event) (bool, error) { return false, fn(e) })
}

// Migrate sends the domain away and calls fn with the progress, the last time with Done set. It returns nil when the migration
// has ended, however it did: the last progress says so.
func (c *Client) Migrate(ctx context.Context, r MigrateRequest, fn func(MigrationProgress) error) error {
	return stream(ctx, c, MethodMigrate, r, func(p MigrationProgress) (bool, error) { return p.Done, fn(p) })
}

func (c *Client) do(ctx context.Context, method Method, params any) error {
	files, err := c.call(ctx, method, params, nil, nil)
	closeAll(files)
	return err
}

func get[R any](ctx context.Context, c *Client, method Method, params any, send ...*os.File) (R, error) {
	var result R
	files, err := c.call(ctx, method, params, &result, send)
	closeAll(files)
	return result, err
}

func (c *Client) file(ctx context.Context, method Method, params any) (*os.File, error) {
	files, err := c.call(ctx, method, params, nil, nil)
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		closeAll(files)
		return nil, fmt.Errorf("%s: the launcher sent %d descriptors instead of one", method, len(files))
	}
	return files[0], nil
}

// call makes one call with one reply.
func (c *Client) call(ctx context.Context, method Method, params, result any, send []*os.File) ([]*os.File, error) {
	conn, done, err := c.open(ctx, method, params, send)
	if err != nil {
		return nil, err
	}
	defer done()
	return receive(ctx, conn, method, result)
}

// stream makes one call with many replies.
func stream[R any](ctx context.Context, c *Client, method Method, params any, fn func(R) (last bool, err error)) error {
	conn, done, err := c.open(ctx, method, params, nil)
	if err != nil {
		return err
	}
	defer done()
	for {
		var result R
		files, err := receive(ctx, conn, method, &result)
		closeAll(files)
		if err != nil {
			return err
		}
		if last, err := fn(result); last || err != nil {
			return err
		}
	}
}

// open connects and sends the request. The connection fails as soon as ctx ends; done closes it.
func (c *Client) open(ctx context.Context, method Method, params any, send []*os.File) (*net.UnixConn, func(), error) {
	request := Request{Version: Version, Method: method}
	if params != nil {
		raw, err := json.Marshal(params)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: encode request: %w", method, err)
		}
		request.Params = raw
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", method, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	done := func() {
		stop()
		_ = conn.Close()
	}
	if err := writeFrame(conn, request, send); err != nil {
		done()
		return nil, nil, callError(ctx, method, err)
	}
	return conn, done, nil
}

func receive(ctx context.Context, conn *net.UnixConn, method Method, result any) ([]*os.File, error) {
	var reply Reply
	files, err := readFrame(conn, &reply)
	if err != nil {
		return nil, callError(ctx, method, err)
	}
	if reply.Error != nil {
		closeAll(files)
		return nil, reply.Error
	}
	if result != nil && len(reply.Result) > 0 {
		if err := json.Unmarshal(reply.Result, result); err != nil {
			closeAll(files)
			return nil, fmt.Errorf("%s: decode result: %w", method, err)
		}
	}
	return files, nil
}

func callError(ctx context.Context, method Method, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", method, context.Cause(ctx))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%s: %w", method, ErrClosed)
	}
	return fmt.Errorf("%s: %w", method, err)
}
