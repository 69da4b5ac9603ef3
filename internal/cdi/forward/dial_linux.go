package forward

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// dialer makes connections that notice a lost peer while bytes wait for it, not only while the line is idle.
func dialer() *net.Dialer {
	return &net.Dialer{
		Timeout: dialTimeout, KeepAlive: dialTimeout,
		Control: func(_, _ string, c syscall.RawConn) error {
			var set error
			err := c.Control(func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
			})
			if err != nil {
				return err
			}
			return set
		},
	}
}
