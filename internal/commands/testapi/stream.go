package testapi

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Guest is what is behind a console: it reads what is typed and writes what appears.
type Guest func(console io.ReadWriter) error

// Echo is a guest that answers each line like a shell would: "uname" gives "Linux", everything else is repeated.
func Echo() Guest {
	return func(console io.ReadWriter) error {
		if _, err := io.WriteString(console, "demo login\r\n$ "); err != nil {
			return err
		}
		lines := bufio.NewReader(console)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return err
			}
			said := strings.TrimSpace(line)
			if said == "uname" {
				said = "Linux"
			}
			if said == "poweroff" {
				return nil
			}
			if _, err := fmt.Fprintf(console, "%s\r\n$ ", said); err != nil {
				return err
			}
		}
	}
}

// stream answers the subresources that are byte streams.
func (s *Server) stream(c *call, sub string) bool {
	name, _, _ := strings.Cut(sub, "/")
	if name != "console" && name != "portforward" && (name != "vnc" || sub != "vnc") && name != "usbredir" {
		return false
	}
	if !c.running() {
		refuse(c.w, http.StatusBadRequest, "BadRequest", "VMI is not running", nil)
		return true
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{"plain.kubevirt.io"}, CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := upgrader.Upgrade(c.w, c.r, nil)
	if err != nil {
		return true
	}
	defer func() { _ = conn.Close() }()
	pipe := &wsPipe{conn: conn}
	switch name {
	case "vnc":
		_, _ = io.WriteString(pipe, "RFB 003.008\n")
		_, _ = io.Copy(pipe, pipe)
	case "portforward", "usbredir":
		echo(pipe)
	default:
		s.mu.Lock()
		guest := s.guest
		s.mu.Unlock()
		if guest(pipe) != nil {
			return true
		}
	}
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	return true
}

// echo answers with what it is told until it is told "bye".
func echo(pipe io.ReadWriter) {
	buffer := make([]byte, 4096)
	for {
		n, err := pipe.Read(buffer)
		if err != nil {
			return
		}
		if _, err := pipe.Write(buffer[:n]); err != nil || strings.Contains(string(buffer[:n]), "bye") {
			return
		}
	}
}

// wsPipe is a websocket as a byte stream.
type wsPipe struct {
	conn *websocket.Conn
	rest io.Reader
}

func (p *wsPipe) Read(b []byte) (int, error) {
	for {
		if p.rest == nil {
			_, reader, err := p.conn.NextReader()
			if err != nil {
				return 0, err
			}
			p.rest = reader
		}
		n, err := p.rest.Read(b)
		if err != nil {
			p.rest = nil
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (p *wsPipe) Write(b []byte) (int, error) {
	return len(b), p.conn.WriteMessage(websocket.BinaryMessage, b)
}
