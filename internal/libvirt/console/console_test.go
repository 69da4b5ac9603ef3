package console

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is far more than anything here takes.
const patience = 20 * time.Second

// guest is the other end of a serial port, as QEMU serves it.
type guest struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// log collects lines and lets a test wait for one.
type log struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.buf.Write(p)
}

func (l *log) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.buf.String() }

func (l *log) await(t *testing.T, text string) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.more:
		case <-timer.C:
			t.Fatalf("%q is not in the log:\n%s", text, l.String())
		}
	}
}

func newHub(t *testing.T) (*Hub, *guest, *log) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "serial")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	out := &log{more: make(chan struct{}, 1)}
	h := New(out)
	t.Cleanup(h.Close)
	if err := h.Connect(path); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return h, &guest{t: t, conn: conn, r: bufio.NewReader(conn)}, out
}

func (g *guest) print(s string) {
	g.t.Helper()
	_ = g.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(g.conn, s); err != nil {
		g.t.Fatalf("the guest is kept waiting: %v", err)
	}
}

func open(t *testing.T, h *Hub) *os.File {
	t.Helper()
	f, err := h.Open(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	_ = f.SetReadDeadline(time.Now().Add(patience))
	return f
}

func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

func TestSessionGetsReplayOutputAndTypes(t *testing.T) {
	h, g, out := newHub(t)
	g.print("boot\r\nlogin: ")
	out.await(t, "boot\n")
	s := open(t, h)
	expect(t, s, "boot\r\nlogin: ")
	if _, err := s.WriteString("root\r"); err != nil {
		t.Fatal(err)
	}
	expect(t, g.r, "root\r")
	g.print("welcome")
	expect(t, s, "welcome")
}

func TestASessionWithoutReplayBeginsNow(t *testing.T) {
	h, g, out := newHub(t)
	g.print("boot\r\n")
	out.await(t, "boot\n")
	s, err := h.Open(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	g.print("login: ")
	expect(t, s, "login: ")
}

func TestANewSessionEndsTheFormer(t *testing.T) {
	h, g, _ := newHub(t)
	first := open(t, h)
	second := open(t, h)
	if _, err := io.ReadAll(first); err != nil {
		t.Fatalf("the first session: %v", err)
	}
	g.print("x")
	expect(t, second, "x")
}

// A user who stops reading must neither stop the guest nor the log.
func TestASlowReaderMissesOutput(t *testing.T) {
	h, g, out := newHub(t)
	s := open(t, h)
	g.print("first\n")
	expect(t, s, "first\n")
	line := strings.Repeat("y", 1023) + "\n"
	for range 4 * ReplaySize / len(line) {
		g.print(line)
	}
	g.print("last\n")
	out.await(t, "last\n")
	r := bufio.NewReader(s)
	skipped := false
	for {
		got, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		skipped = skipped || strings.Contains(got, "bytes of output skipped")
		if strings.HasPrefix(got, "last") {
			break
		}
	}
	if !skipped {
		t.Error("nothing was said about what was left out")
	}
}

func TestTheEndOfThePortEndsTheSession(t *testing.T) {
	h, g, out := newHub(t)
	s := open(t, h)
	g.print("bye")
	_ = g.conn.Close()
	if all, err := io.ReadAll(s); err != nil || string(all) != "bye" {
		t.Fatalf("%q, %v", all, err)
	}
	if _, err := h.Open(true); !errors.Is(err, ErrNotConnected) {
		t.Fatalf("opening without a port: %v", err)
	}
	h.Close()
	if out.String() != "bye\n" {
		t.Fatalf("log %q", out.String())
	}
}

func TestTheLogIsPlainBoundedText(t *testing.T) {
	h, g, out := newHub(t)
	g.print("\x1b[31mred\x1b[0m\r\n\x1b]0;title\x07tab\there\x00\x08\r\n\xff\xfe\r\n" + strings.Repeat("z", MaxLine+1) + "\n")
	out.await(t, "zz\nz\n")
	lines := strings.Split(out.String(), "\n")
	if lines[0] != "red" || lines[1] != "tab\there" || lines[2] != "\ufffd" || len(lines[3]) != MaxLine {
		t.Errorf("%q", lines[:3])
	}
	h.SetLog(false)
	g.print("secret\n")
	s := open(t, h)
	r := bufio.NewReader(s)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "secret\n" {
			break
		}
	}
	h.Close()
	if strings.Contains(out.String(), "secret") {
		t.Error("the log was off")
	}
}

// A terminal that is shown an old question would answer it into the guest's shell.
func TestReplayAsksNoQuestions(t *testing.T) {
	for in, want := range map[string]string{
		"$ \x1b[6n":                     "$ ",
		"\x1b[31mred\x1b[0m":            "\x1b[31mred\x1b[0m",
		"a\x1b[cb\x1b[>0cc\x1b[5nd":     "abcd",
		"\x1b]0;title\x07\x1b]11;?\x07": "\x1b]0;title\x07",
		"x\x1bP+q544e\x1b\\y":           "xy",
		"\x1bZ\x1b7":                    "\x1b7",
		"\x1b[2J\x1b[H":                 "\x1b[2J\x1b[H",
		"cut \x1b[6":                    "cut ",
	} {
		if got := string(withoutQuestions([]byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzSequences(f *testing.F) {
	f.Add([]byte("a\x1b[31mb"), 3)
	f.Add([]byte("\x1b]0;t\x1b\\x\x1bP"), 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		collect := func(parts ...[]byte) (text, all []byte) {
			var s sequences
			for _, p := range parts {
				s.feed(p, func(b []byte) { text, all = append(text, b...), append(all, b...) }, func(b []byte) { all = append(all, b...) })
				if len(s.pending) > maxSequence+1 {
					t.Fatal("an unbounded sequence")
				}
			}
			if s.state != 0 {
				all = append(all, s.pending...)
			}
			return text, all
		}
		cut = min(max(cut, 0), len(data))
		text, all := collect(data)
		if !bytes.Equal(all, data) {
			t.Fatal("bytes were lost")
		}
		if cutText, _ := collect(data[:cut], data[cut:]); !bytes.Equal(text, cutText) {
			t.Fatal("where a write ends matters")
		}
	})
}

func FuzzRing(f *testing.F) {
	f.Add([]byte("hello world, this is longer than the ring"), uint8(7))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		r := newRing(16)
		for rest := data; len(rest) > 0; {
			n := min(int(step%24)+1, len(rest))
			r.write(rest[:n])
			rest = rest[n:]
		}
		got := make([]byte, 16)
		n := r.read(got, r.oldest())
		if !bytes.Equal(got[:n], data[len(data)-min(16, len(data)):]) {
			t.Fatalf("%q is not the end of %q", got[:n], data)
		}
	})
}
