// Package dial makes connections that notice a lost peer while bytes wait for it, not only while the line is idle.
package dial

import (
	"net"
	"time"
)

// unacknowledged is how long bytes may be on their way before the peer counts as lost, where the system can tell.
const unacknowledged = 30 * time.Second

// keepAlive is how often an idle line is tried.
const keepAlive = 10 * time.Second

// Dialer gives up connecting after timeout.
func Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: keepAlive, Control: control}
}
