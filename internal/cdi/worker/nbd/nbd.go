// Package nbd shows a remote file to qemu-img as a block device, over a unix socket, read only: the fixed newstyle handshake and simple
// replies of the Network Block Device protocol. https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
//
// An image that cannot be decoded in order is read this way, with the worker's own rules for connections, credentials and redirects, and
// without a copy on scratch space.
package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Of the protocol.
const (
	magicInit    = 0x4e42444d41474943 // NBDMAGIC
	magicOption  = 0x49484156454f5054 // IHAVEOPT
	magicReply   = 0x0003e889045565a9
	magicRequest = 0x25609513
	magicSimple  = 0x67446698

	flagFixedNewstyle = 1
	flagNoZeroes      = 2
	flagHasFlags      = 1
	flagReadOnly      = 2
	flagMultiConn     = 1 << 8

	optExportName = 1
	optAbort      = 2
	optInfo       = 6
	optGo         = 7

	replyAck         = 1
	replyInfo        = 3
	replyUnsupported = 1<<31 | 1
	infoExport       = 0

	cmdRead  = 0
	cmdClose = 2

	errPermission = 1
	errIO         = 5
	errInvalid    = 22

	maxOption  = 4096
	maxRequest = 32 << 20
)

// Export is what is shown.
type Export struct {
	Reader io.ReaderAt
	Size   int64
}

// Serve answers connections until ctx ends, which closes the listener. Its error is the first that reading the export gave: the client
// learns no more than that there was one.
func Serve(ctx context.Context, l net.Listener, export Export) error {
	var (
		mu      sync.Mutex
		failure error
		group   sync.WaitGroup
	)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			group.Wait()
			if failure == nil && ctx.Err() == nil {
				failure = fmt.Errorf("accept a connection of qemu-img: %w", err)
			}
			return failure
		}
		group.Go(func() {
			defer conn.Close()
			closed := context.AfterFunc(ctx, func() { conn.Close() })
			defer closed()
			var read *readError
			if err := (&session{conn: conn, export: export}).run(); errors.As(err, &read) {
				mu.Lock()
				defer mu.Unlock()
				if failure == nil {
					failure = read.err
				}
			}
		})
	}
}

// readError is a failure of the export, not of the connection.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

type session struct {
	conn   net.Conn
	export Export
	buf    []byte
	failed *readError
}

func (s *session) run() error {
	if err := s.handshake(); err != nil {
		return err
	}
	for {
		done, err := s.request()
		if err != nil || done {
			if s.failed != nil {
				return s.failed
			}
			return err
		}
	}
}

var errAborted = errors.New("the client ended the handshake")

func (s *session) handshake() error {
	hello := binary.BigEndian.AppendUint64(nil, magicInit)
	hello = binary.BigEndian.AppendUint64(hello, magicOption)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if _, err := s.conn.Write(hello); err != nil {
		return err
	}
	var flags [4]byte
	if _, err := io.ReadFull(s.conn, flags[:]); err != nil {
		return err
	}
	noZeroes := binary.BigEndian.Uint32(flags[:])&flagNoZeroes != 0
	for {
		ready, err := s.option(noZeroes)
		if err != nil || ready {
			return err
		}
	}
}

// option answers one of the client's; true when the transmission begins.
func (s *session) option(noZeroes bool) (bool, error) {
	var head [16]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		return false, err
	}
	kind, size := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
	if binary.BigEndian.Uint64(head[:]) != magicOption || size > maxOption {
		return false, errors.New("not an option of the protocol")
	}
	if _, err := io.CopyN(io.Discard, s.conn, int64(size)); err != nil {
		return false, err
	}
	switch kind {
	case optExportName:
		reply := s.describe(nil)
		if !noZeroes {
			reply = append(reply, make([]byte, 124)...)
		}
		_, err := s.conn.Write(reply)
		return true, err
	case optInfo, optGo:
		info := s.describe(binary.BigEndian.AppendUint16(nil, infoExport))
		if err := s.reply(kind, replyInfo, info); err != nil {
			return false, err
		}
		return kind == optGo, s.reply(kind, replyAck, nil)
	case optAbort:
		return false, errors.Join(s.reply(kind, replyAck, nil), errAborted)
	}
	return false, s.reply(kind, replyUnsupported, nil)
}

func (s *session) describe(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.export.Size))
	return binary.BigEndian.AppendUint16(b, flagHasFlags|flagReadOnly|flagMultiConn)
}

func (s *session) reply(option, kind uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(nil, magicReply)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	_, err := s.conn.Write(append(b, data...))
	return err
}

// request answers one; true when the client says goodbye.
func (s *session) request() (bool, error) {
	var head [28]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		return false, err
	}
	if binary.BigEndian.Uint32(head[:]) != magicRequest {
		return false, errors.New("not a request of the protocol")
	}
	command, size := binary.BigEndian.Uint16(head[6:]), binary.BigEndian.Uint32(head[24:])
	offset := int64(binary.BigEndian.Uint64(head[16:]))
	if n := 16 + int(blockSize(command, size)); len(s.buf) < n {
		s.buf = make([]byte, n)
	}
	answer := s.buf[:16]
	binary.BigEndian.PutUint32(answer, magicSimple)
	copy(answer[8:], head[8:16]) // the client's handle
	code := uint32(0)
	switch {
	case command == cmdClose:
		return true, nil
	case command != cmdRead:
		code = errPermission
	case size > maxRequest || offset < 0 || offset > s.export.Size-int64(size):
		code = errInvalid
	default:
		answer = s.buf[:16+size]
		if n, err := s.export.Reader.ReadAt(answer[16:], offset); n < int(size) {
			s.failed, code, answer = &readError{err}, errIO, answer[:16]
		}
	}
	binary.BigEndian.PutUint32(answer[4:], code)
	_, err := s.conn.Write(answer)
	return false, err
}

func blockSize(command uint16, size uint32) uint32 {
	if command != cmdRead || size > maxRequest {
		return 0
	}
	return size
}
