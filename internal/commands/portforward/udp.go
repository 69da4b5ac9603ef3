package portforward

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"virtctl/internal/client"
)

const (
	// datagram is the largest that is carried: what fits an Ethernet frame.
	datagram = 1500
	// udpIdle is after how much silence a UDP client is forgotten.
	udpIdle = 2 * time.Minute
)

// udpClients are the streams of the clients that have sent something lately, by their address.
type udpClients struct {
	mu      sync.Mutex
	streams map[string]*udpClient
}

type udpClient struct {
	stream *client.Stream
	idle   *time.Timer
}

func (f *forwarder) udp(ctx context.Context, at string, p port) (run func() error, where string, err error) {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", at)
	if err != nil {
		return nil, "", err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	clients := &udpClients{streams: map[string]*udpClient{}}
	return func() error {
		buffer := make([]byte, datagram)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("read at %s: %w", conn.LocalAddr(), err)
			}
			one, err := f.udpClient(ctx, clients, conn, from, p)
			if err != nil {
				f.streams.Say("datagram from %s: %s\n", from, err)
				continue
			}
			one.idle.Reset(udpIdle)
			if _, err := one.stream.Write(buffer[:n]); err != nil {
				clients.forget(from)
			}
		}
	}, conn.LocalAddr().String(), nil
}

// udpClient finds the stream of a client, or opens one.
func (f *forwarder) udpClient(ctx context.Context, clients *udpClients, conn net.PacketConn, from net.Addr, p port) (*udpClient, error) {
	clients.mu.Lock()
	one, known := clients.streams[from.String()]
	clients.mu.Unlock()
	if known {
		return one, nil
	}
	stream, err := f.open(ctx, p)
	if err != nil {
		return nil, err
	}
	one = &udpClient{stream: stream, idle: time.AfterFunc(udpIdle, func() { clients.forget(from) })}
	clients.mu.Lock()
	clients.streams[from.String()] = one
	clients.mu.Unlock()
	go func() {
		defer clients.forget(from)
		buffer := make([]byte, datagram)
		for {
			n, err := stream.Read(buffer)
			if err != nil {
				return
			}
			if _, err := conn.WriteTo(buffer[:n], from); err != nil {
				return
			}
			one.idle.Reset(udpIdle)
		}
	}()
	return one, nil
}

func (c *udpClients) forget(from net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one, known := c.streams[from.String()]; known {
		delete(c.streams, from.String())
		one.idle.Stop()
		_ = one.stream.Close()
	}
}
