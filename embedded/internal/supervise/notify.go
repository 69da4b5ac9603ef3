package supervise

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
)

// notifySocket is the receiving end of sd_notify(3): programs that know systemd report here when they are ready.
type notifySocket struct{ conn *net.UnixConn }

// listenNotify makes a socket with an abstract name, which leaves no file behind and works in a mount namespace.
func listenNotify() (*notifySocket, error) {
	name := "@virt-kube-notify-" + rand.Text()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("make notify socket: %w", err)
	}
	return &notifySocket{conn}, nil
}

func (n *notifySocket) address() string { return n.conn.LocalAddr().String() }

func (n *notifySocket) close() { _ = n.conn.Close() }

// wait calls ready at the first READY=1 and returns then or when the socket is closed.
func (n *notifySocket) wait(ready func()) {
	buf := make([]byte, 4096)
	for {
		size, err := n.conn.Read(buf)
		if err != nil {
			return
		}
		if isReady(buf[:size]) {
			ready()
			return
		}
	}
}

func isReady(message []byte) bool {
	for line := range bytes.SplitSeq(message, []byte("\n")) {
		if string(line) == "READY=1" {
			return true
		}
	}
	return false
}
