package stream

import (
	"errors"
	"io"
	"net"

	"github.com/gorilla/websocket"
)

// maxDatagram is the largest UDP payload.
const maxDatagram = 64 << 10

// Forward carries a guest's connection over a client's websocket until either ends, and pings the client. Over UDP each
// message is one datagram. It closes both.
func Forward(client *websocket.Conn, guest net.Conn, stop <-chan struct{}) error {
	done := make(chan struct{})
	results := make(chan error, 2)
	client.SetReadLimit(maxMessage)
	go keepAlive(client, done)
	_, packets := guest.(*net.UDPConn)
	go func() { results <- toGuest(guest, client, packets) }()
	go func() { results <- toClient(client, guest, packets) }()
	var first error
	code, text := websocket.CloseServiceRestart, "virt-api is restarting, connect again"
	select {
	case first = <-results:
		code, text = closing(first)
	case <-stop:
	}
	close(done)
	goodbye(client, code, text)
	_ = guest.Close()
	if code == websocket.CloseNormalClosure || code == websocket.CloseServiceRestart {
		return nil
	}
	return first
}

func toGuest(guest net.Conn, client *websocket.Conn, packets bool) error {
	buffer := make([]byte, bufferSize)
	for {
		kind, reader, err := client.NextReader()
		if err != nil {
			return err
		}
		if kind != websocket.BinaryMessage {
			continue
		}
		if packets {
			err = datagram(guest, reader)
		} else {
			_, err = io.CopyBuffer(onlyWriter{guest}, onlyReader{reader}, buffer)
		}
		if err != nil {
			return err
		}
	}
}

// datagram sends one message as one datagram. What does not fit is lost, as it would be on the wire.
func datagram(guest net.Conn, reader io.Reader) error {
	payload, err := io.ReadAll(io.LimitReader(reader, maxDatagram))
	if err != nil {
		return err
	}
	if _, err := guest.Write(payload); errors.Is(err, net.ErrClosed) {
		return err
	}
	// Refused and oversized datagrams are no reason to end the session.
	return nil
}

func toClient(client *websocket.Conn, guest net.Conn, packets bool) error {
	size := bufferSize
	if packets {
		size = maxDatagram
	}
	buffer := make([]byte, size)
	for {
		n, err := guest.Read(buffer)
		if n > 0 {
			if err := client.WriteMessage(websocket.BinaryMessage, buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case packets && !errors.Is(err, net.ErrClosed):
			// An ICMP error for an earlier datagram; the next read waits for the next datagram.
		default:
			return err
		}
	}
}
