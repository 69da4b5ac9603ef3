//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"strconv"
	"testing"
	"time"
)

// TestSessionsOutliveComponents: a console and a VNC session go on while every component is replaced under them, and while their
// certificates are.
func TestSessionsOutliveComponents(t *testing.T) {
	j := start(t)
	j.boot("web")
	j.logIn("web")
	ctx, cancel := context.WithTimeout(t.Context(), stepTime)
	defer cancel()
	console, err := openConsole(ctx, j.namespace, "web")
	defer console.end()
	if err != nil {
		t.Fatal(err)
	}
	says := func(word string) {
		t.Helper()
		if _, err := io.WriteString(console.keyboard, "\necho said-"+word+"'-and-done'\n"); err != nil {
			t.Fatal(err)
		}
		if ok, seen := console.until("said-" + word + "-and-done"); !ok {
			t.Fatalf("the console ended with %q", seen[max(0, len(seen)-400):])
		}
	}
	says("first")
	screen := openVNC(ctx, j, "web")
	screen.refresh()

	j.replaced()
	says("second")
	screen.refresh()
	j.newCertificates("kubevirt-virt-api-certs", "kubevirt-virt-handler-certs", "kubevirt-virt-handler-server-certs")
	j.replaced()
	says("third")
	screen.refresh()
}

// vnc is a client of the RFB protocol that looks at the picture.
type vnc struct {
	*testing.T
	conn          net.Conn
	width, height uint16
}

// openVNC connects through `virtctl vnc --proxy-only`, which ends with ctx.
func openVNC(ctx context.Context, j *journey, name string) *vnc {
	j.Helper()
	proxy := shared.Program(ctx, "virtctl", "-n", j.namespace, "vnc", name, "--proxy-only")
	out, err := proxy.StdoutPipe()
	if err != nil {
		j.Fatal(err)
	}
	if err := proxy.Start(); err != nil {
		j.Fatal(err)
	}
	j.Cleanup(func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait()
	})
	var said struct{ Port int }
	if err := json.NewDecoder(out).Decode(&said); err != nil {
		j.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(said.Port)))
	if err != nil {
		j.Fatal(err)
	}
	j.Cleanup(func() { _ = conn.Close() })
	v := &vnc{T: j.T, conn: conn}
	v.read(len("RFB 003.008\n"))
	v.write([]byte("RFB 003.008\n"))
	v.read(int(v.read(1)[0])) // the ways to log in
	v.write([]byte{1})        // none
	v.read(4)
	v.write([]byte{1}) // others may look, too
	head := v.read(24)
	v.width, v.height = binary.BigEndian.Uint16(head), binary.BigEndian.Uint16(head[2:])
	v.read(int(binary.BigEndian.Uint32(head[20:])))
	return v
}

func (v *vnc) read(n int) []byte {
	v.Helper()
	if err := v.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		v.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(v.conn, b); err != nil {
		v.Fatalf("the VNC session: %v", err)
	}
	return b
}

func (v *vnc) write(b []byte) {
	v.Helper()
	if _, err := v.conn.Write(b); err != nil {
		v.Fatalf("the VNC session: %v", err)
	}
}

// refresh asks for a whole picture and reads it, raw, to its last pixel.
func (v *vnc) refresh() {
	v.Helper()
	request := []byte{3, 0, 0, 0, 0, 0}
	request = binary.BigEndian.AppendUint16(request, v.width)
	request = binary.BigEndian.AppendUint16(request, v.height)
	v.write(request)
	head := v.read(4)
	if head[0] != 0 {
		v.Fatalf("the VNC session sent a message of kind %d instead of a picture", head[0])
	}
	for range binary.BigEndian.Uint16(head[2:]) {
		area := v.read(12)
		if kind := int32(binary.BigEndian.Uint32(area[8:])); kind != 0 {
			v.Fatalf("the VNC session sent an encoding %d that nobody asked for", kind)
		}
		v.read(4 * int(binary.BigEndian.Uint16(area[4:])) * int(binary.BigEndian.Uint16(area[6:])))
	}
}
