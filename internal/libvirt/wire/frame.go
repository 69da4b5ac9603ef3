package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
)

// MaxFiles bounds the descriptors beside one frame.
const MaxFiles = 64

const headerSize = 4

// errFrameTooLarge says that a peer announced or asked for more than MaxFrame.
var errFrameTooLarge = fmt.Errorf("message is larger than %d bytes", MaxFrame)

// writeFrame sends v and, beside its first byte, files. The files stay the caller's.
func writeFrame(conn *net.UnixConn, v any, files []*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(body) > MaxFrame {
		return errFrameTooLarge
	}
	if len(files) > MaxFiles {
		return fmt.Errorf("%d descriptors in one message, the limit is %d", len(files), MaxFiles)
	}
	frame := make([]byte, headerSize+len(body))
	binary.BigEndian.PutUint32(frame, uint32(len(body)))
	copy(frame[headerSize:], body)
	if len(files) > 0 {
		n, err := sendWithFiles(conn, frame, files)
		if err != nil {
			return err
		}
		frame = frame[n:]
	}
	if len(frame) == 0 {
		return nil
	}
	if _, err := conn.Write(frame); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

func sendWithFiles(conn *net.UnixConn, frame []byte, files []*os.File) (int, error) {
	fds := make([]int, 0, len(files))
	for _, f := range files {
		// Not f.Fd(): that would turn the description blocking for everyone who shares it.
		raw, err := f.SyscallConn()
		if err != nil {
			return 0, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return 0, fmt.Errorf("descriptor of %s: %w", f.Name(), err)
		}
	}
	n, _, err := conn.WriteMsgUnix(frame, syscall.UnixRights(fds...), nil)
	runtime.KeepAlive(files)
	if err != nil {
		return 0, fmt.Errorf("send message with descriptors: %w", err)
	}
	return n, nil
}

// readFrame receives one frame into v and returns the descriptors beside it, which are the caller's to close.
// io.EOF means that the peer closed the connection between two frames.
func readFrame(conn *net.UnixConn, v any) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	var header [headerSize]byte
	files, err = readHeader(conn, header[:])
	if err != nil {
		return files, err
	}
	size := binary.BigEndian.Uint32(header[:])
	if size > MaxFrame {
		return files, errFrameTooLarge
	}
	body, err := readBody(conn, int(size))
	if err != nil {
		return files, fmt.Errorf("receive message: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return files, fmt.Errorf("decode message: %w", err)
	}
	return files, nil
}

// readBody grows with what really arrives, so that a peer cannot make us reserve MaxFrame by a header alone.
func readBody(conn *net.UnixConn, size int) ([]byte, error) {
	const step = 64 << 10
	body := make([]byte, 0, min(size, step))
	for len(body) < size {
		n := min(size-len(body), max(step, len(body)))
		body = append(body, make([]byte, n)...)
		if _, err := io.ReadFull(conn, body[len(body)-n:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return body, nil
}

func readHeader(conn *net.UnixConn, header []byte) ([]*os.File, error) {
	oob := make([]byte, syscall.CmsgSpace(MaxFiles*4))
	var files []*os.File
	for got := 0; got < len(header); {
		n, oobn, flags, _, err := conn.ReadMsgUnix(header[got:], oob)
		if err != nil {
			return files, fmt.Errorf("receive message: %w", err)
		}
		more, err := parseFiles(oob[:oobn])
		files = append(files, more...)
		switch {
		case err != nil:
			return files, err
		case flags&syscall.MSG_CTRUNC != 0 || len(files) > MaxFiles:
			return files, fmt.Errorf("more than %d descriptors in one message", MaxFiles)
		case n == 0 && got == 0:
			return files, io.EOF
		case n == 0:
			return files, fmt.Errorf("receive message: %w", io.ErrUnexpectedEOF)
		}
		got += n
	}
	return files, nil
}

func parseFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue // credentials or another kind we did not ask for
		}
		for _, fd := range fds {
			// os.NewFile uses the poller only for descriptors that are non-blocking already.
			_ = syscall.SetNonblock(fd, true)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
