package migration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// pieces counts what is written and how.
type pieces struct {
	bytes.Buffer
	writes int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.writes++
	return p.Buffer.Write(b)
}

// records gives what it has as a TLS connection does, a record at a time, and nothing but that.
type records struct{ left *bytes.Reader }

func (r records) Read(b []byte) (int, error) { return r.left.Read(b[:min(len(b), 16<<10)]) }

// What was read behind a small buffer goes on in the pieces it came in: a guest of 100 MiB took 200,000 of them otherwise.
func TestPumpKeepsPieces(t *testing.T) {
	const size = 1 << 20
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	from := bufio.NewReaderSize(records{bytes.NewReader(sent)}, maxHello)
	if _, err := from.Peek(1); err != nil {
		t.Fatal(err)
	}
	to := &pieces{}
	must(t, pump(to, from))
	if !bytes.Equal(to.Bytes(), sent) {
		t.Errorf("%d bytes arrived, not the %d that were sent", to.Len(), len(sent))
	}
	// One more for what was in the buffer.
	if most := size>>14 + 1; to.writes > most {
		t.Errorf("%d pieces, want at most %d", to.writes, most)
	}
}

// countingConn counts how often the network is written to.
type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes++
	return c.Conn.Write(b)
}

// A write is one for the network, too, however many records it becomes.
func TestGatheredTLS(t *testing.T) {
	ca := newAuthority(t)
	here, there := net.Pipe()
	network := &countingConn{Conn: here}
	under := &gatheringConn{Conn: network}
	client := &gatheredTLS{Conn: tls.Client(under, ca.source(SourceCommonName).Client(TargetCommonName)), under: under}
	server := tls.Server(there, ca.source(TargetCommonName).Server(tls.RequireAndVerifyClientCert))
	arrived := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(server)
		arrived <- all
	}()
	must(t, client.Handshake())
	sent := bytes.Repeat([]byte("x"), chunk)
	before := network.writes
	for range 2 {
		n, err := client.Write(sent)
		must(t, err)
		if n != len(sent) {
			t.Errorf("%d bytes were written, want %d", n, len(sent))
		}
	}
	if wrote := network.writes - before; wrote != 2 {
		t.Errorf("the network was written to %d times, want 2", wrote)
	}
	must(t, client.CloseWrite())
	if got := <-arrived; len(got) != 2*len(sent) {
		t.Errorf("%d bytes arrived, want %d", len(got), 2*len(sent))
	}
}
