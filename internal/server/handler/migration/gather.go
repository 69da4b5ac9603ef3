package migration

import (
	"crypto/tls"
	"net"
	"sync"
)

// gatheredTLS sends each Write in one piece. crypto/tls sends every record of 16 KiB by itself, and each of them would go through the
// node's whole network and wake the other end.
type gatheredTLS struct {
	*tls.Conn
	under *gatheringConn
}

func (c *gatheredTLS) Write(b []byte) (int, error) {
	c.under.gather()
	n, err := c.Conn.Write(b)
	if sent := c.under.send(); err == nil {
		err = sent
	}
	return n, err
}

// gatheringConn keeps what is written between gather and send back until then.
type gatheringConn struct {
	net.Conn

	mu        sync.Mutex
	gathering bool
	kept      []byte
}

func (c *gatheringConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gathering {
		return c.Conn.Write(b)
	}
	c.kept = append(c.kept, b...)
	return len(b), nil
}

// CloseWrite ends what is sent; what is received goes on.
func (c *gatheringConn) CloseWrite() error { return closeWrite(c.Conn) }

func (c *gatheringConn) gather() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathering = true
}

func (c *gatheringConn) send() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathering = false
	_, err := c.Conn.Write(c.kept)
	c.kept = c.kept[:0]
	return err
}
