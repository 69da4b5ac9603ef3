package migration

import (
	"fmt"
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// What is under way between the two QEMUs when the guest is stopped has to arrive while it stands still, and QEMU does not know of it.
// Left to itself the kernel lets 10 MiB and more pile up on the way to a target that is slower than the source; so no more than what
// keeps the network busy may be under way.
const (
	// unsentMost is what the source's kernel keeps beyond what the target's has room for.
	unsentMost = chunk
	// leastWindow and mostWindow bound what the target's kernel has room for.
	leastWindow = 256 << 10
	mostWindow  = 16 << 20
	// fastest is the network that is kept busy, in bytes a second.
	fastest = 10e9 / 8
)

// window is the room that a network with that round trip needs.
func window(roundTrip time.Duration) int {
	return min(max(int(fastest*roundTrip.Seconds()), leastWindow), mostWindow)
}

// sendLittleAhead is for the end that sends a guest. It takes effect at once.
func sendLittleAhead(conn net.Conn) error {
	return control(conn, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMost)
	})
}

// takeLittleAhead is for the end that takes a guest in, when a few packets have told how long a round trip is.
func takeLittleAhead(conn net.Conn) error {
	return control(conn, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return err
		}
		roundTrip := time.Duration(info.Min_rtt) * time.Microsecond
		if info.Min_rtt == math.MaxUint32 {
			roundTrip = 0 // not measured yet
		}
		size := window(roundTrip)
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil {
			return nil
		}
		// Without the capability the node's own bound (net.core.rmem_max) counts.
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	})
}

// control calls fn with a TCP connection's descriptor.
func control(conn net.Conn, fn func(fd int) error) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("a %T is no TCP connection", conn)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = fn(int(fd)) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("bound what is under way: %w", failed)
	}
	return nil
}
