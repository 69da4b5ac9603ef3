// Package dhcp tells a guest its pod's addresses: DHCPv4, DHCPv6 and router advertisements on the bridge between them. The sockets
// come from virt-handler, which may open what a pod without capabilities may not.
package dhcp

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"virtctl/internal/libvirt/wire"
)

// advertiseEvery is how often guests hear of their router unasked.
const advertiseEvery = 20 * time.Minute

// Server answers on all interfaces of a pod.
type Server struct {
	logf func(format string, args ...any)

	mu      sync.Mutex
	serving bool
	closers []func()
	workers sync.WaitGroup
}

// NewServer returns a server that does nothing yet.
func NewServer(logf func(format string, args ...any)) *Server { return &Server{logf: logf} }

// Serve starts answering. It takes the files over. A second call changes nothing: the guest has its address.
func (s *Server) Serve(interfaces []wire.DHCPInterface, roles []wire.SocketRole, files []*os.File) error {
	defer func() {
		for _, f := range files {
			_ = f.Close() // what is served was duplicated
		}
	}()
	if len(roles) != len(files) {
		return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("%d DHCP sockets named, %d came", len(roles), len(files))}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		return nil
	}
	sockets := map[wire.SocketRole]*os.File{}
	for n, r := range roles {
		sockets[r] = files[n]
	}
	for _, i := range interfaces {
		if err := s.serveInterface(i, sockets); err != nil {
			s.closeAll()
			return &wire.Error{Code: wire.CodeInvalid, Message: fmt.Sprintf("DHCP on %s: %v", i.Bridge, err)}
		}
	}
	s.serving = true
	return nil
}

// Close stops answering.
func (s *Server) Close() {
	s.mu.Lock()
	s.closeAll()
	s.mu.Unlock()
	s.workers.Wait()
}

func (s *Server) closeAll() {
	for _, c := range s.closers {
		c()
	}
	s.closers = nil
}

func (s *Server) serveInterface(i wire.DHCPInterface, sockets map[wire.SocketRole]*os.File) error {
	if i.IPv4 != "" {
		config, err := newConfig4(i)
		if err != nil {
			return err
		}
		conn, err := socket4(sockets[wire.SocketRole{Interface: i.Bridge, Kind: "dhcp4"}], i.Bridge)
		if err != nil {
			return err
		}
		s.loop(conn, func(packet []byte, _ net.Addr) {
			if answer, to := config.answer4(packet); answer != nil {
				s.send(conn, answer, to)
			}
		})
	}
	if i.IPv6 == "" {
		return nil
	}
	link, err := net.InterfaceByName(i.Bridge)
	if err != nil {
		return fmt.Errorf("look the bridge up: %w", err)
	}
	config, err := newConfig6(i, link.HardwareAddr)
	if err != nil {
		return err
	}
	conn, err := socket6(sockets[wire.SocketRole{Interface: i.Bridge, Kind: "dhcp6"}], link)
	if err != nil {
		return err
	}
	s.loop(conn, func(packet []byte, from net.Addr) {
		if answer := config.answer6(packet); answer != nil {
			s.send(conn, answer, from)
		}
	})
	if file := sockets[wire.SocketRole{Interface: i.Bridge, Kind: "ra"}]; file != nil {
		return s.advertise(file, link, advertisement(config, i, link.HardwareAddr))
	}
	return nil
}

// advertise answers router solicitations, which every guest sends when its link comes up, and speaks unasked from time to time.
func (s *Server) advertise(file *os.File, link *net.Interface, packet []byte) error {
	conn, err := socketRA(file, link)
	if err != nil {
		return err
	}
	everyone := &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: link.Name}
	s.loop(conn, func(request []byte, _ net.Addr) {
		if len(request) > 0 && request[0] == icmpRouterSolicitation {
			s.send(conn, packet, everyone)
		}
	})
	stop := make(chan struct{})
	s.closers = append(s.closers, func() { close(stop) })
	s.workers.Go(func() {
		ticker := time.NewTicker(advertiseEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.send(conn, packet, everyone)
			case <-stop:
				return
			}
		}
	})
	return nil
}

// loop hands every packet to answer until the connection is closed.
func (s *Server) loop(conn net.PacketConn, answer func(packet []byte, from net.Addr)) {
	s.closers = append(s.closers, func() { _ = conn.Close() })
	s.workers.Go(func() {
		buf := make([]byte, maxPacket)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			answer(buf[:n], from)
		}
	})
}

func (s *Server) send(conn net.PacketConn, packet []byte, to net.Addr) {
	if _, err := conn.WriteTo(packet, to); err != nil {
		s.logf("answer the guest's request for an address: %v", err)
	}
}
