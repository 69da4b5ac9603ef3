//go:build guest

package demo_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"virtctl/internal/images"
)

// patience bounds every wait for the guest: emulated and on a busy machine, a boot takes a while.
const patience = 90 * time.Second

// machine is a bare QEMU with a demo guest in it.
type machine struct {
	t       *testing.T
	started time.Time
	serial  *console
	qmp     *monitor
	ssh     int           // port of this machine that leads to the guest's
	http    int           // likewise
	gone    chan struct{} // closed when QEMU has ended
}

// options say how a machine differs from the usual one: 128 MiB, virtio disk and network, BIOS.
type options struct {
	direct bool     // boot the demo-kernel image instead of the disk
	disk   string   // device of the boot disk
	nic    string   // network device
	more   []string // further arguments
}

func start(t *testing.T, o options) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, ssh: freePort(t), http: freePort(t), gone: make(chan struct{})}
	control := filepath.Join(dir, "qmp")
	if o.nic == "" {
		o.nic = "virtio-net-pci"
	}
	if o.disk == "" {
		o.disk = "virtio-blk-pci"
	}
	args := []string{
		"-machine", "q35", "-accel", "tcg", "-m", "128", "-display", "none", "-serial", "stdio", "-nodefaults",
		"-chardev", "socket,id=qmp,server=on,wait=off,path=" + control, "-mon", "chardev=qmp,mode=control", "-S",
		"-device", "virtio-rng-pci", "-device", o.nic + ",netdev=n",
		"-netdev", fmt.Sprintf("user,id=n,hostfwd=tcp:127.0.0.1:%d-:22,hostfwd=tcp:127.0.0.1:%d-:80", m.ssh, m.http),
	}
	if o.direct {
		args = append(args, "-kernel", extract(t, "demo-kernel", "/boot/vmlinuz"), "-initrd", extract(t, "demo-kernel", "/boot/initrd.img"),
			"-append", "console=ttyS0,115200n8 quiet")
	} else {
		if o.disk == "scsi-hd" {
			args = append(args, "-device", "virtio-scsi-pci")
		}
		args = append(args, "-drive", "if=none,id=boot,snapshot=on,file="+extract(t, "demo", "/disk/demo.qcow2"), "-device", o.disk+",drive=boot,bootindex=1")
	}
	cmd := exec.Command("qemu-system-x86_64", append(args, o.more...)...)
	cmd.Stderr = &logWriter{t: t}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	m.serial = newConsole(in, out)
	go func() {
		defer close(m.gone)
		<-m.serial.ended
		cmd.Wait() //nolint:errcheck // ended by the guest or by the test
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-m.gone
		if t.Failed() {
			t.Logf("serial console:\n%s", m.serial.all())
		}
	})
	m.qmp = dial(t, control)
	m.started = time.Now()
	m.qmp.do("cont", nil)
	return m
}

// login waits for the prompt and logs in as root, who has no password.
func (m *machine) login() {
	m.t.Helper()
	m.await(`\S+ login: `)
	m.serial.send("root")
	m.await(`root@\S+:~# `)
	// From here on the console only answers: no echo, no prompt, no line editing.
	m.serial.send(`stty -echo; exec sh -c 'echo rea""dy; while read -r line; do eval "$line"; done'`)
	m.await(`ready\r\n`)
}

// await waits for what the console says and returns how long after the start that was.
func (m *machine) await(pattern string) time.Duration {
	m.t.Helper()
	if _, err := m.serial.await(pattern); err != nil {
		m.t.Fatalf("%v; the console so far:\n%s", err, m.serial.all())
	}
	return time.Since(m.started)
}

// run types a command at the prompt and returns what it prints.
func (m *machine) run(command string) string {
	m.t.Helper()
	m.serial.send(command + "; echo exit=$?")
	got, err := m.serial.await(`(?s)^(.*?)exit=(\d+)\r?\n`)
	if err != nil {
		m.t.Fatalf("%s: %v", command, err)
	}
	if got[2] != "0" {
		m.t.Fatalf("%s: status %s: %s", command, got[2], got[1])
	}
	return strings.TrimSpace(strings.ReplaceAll(got[1], "\r", ""))
}

// awaitEnd waits until the machine is off.
func (m *machine) awaitEnd() {
	m.t.Helper()
	select {
	case <-m.gone:
	case <-time.After(patience):
		m.t.Fatalf("the machine is still on; the console:\n%s", m.serial.all())
	}
}

// console collects what the serial port says.
type console struct {
	in    io.Writer
	ended chan struct{}

	mu   sync.Mutex
	text []byte
	read int // up to here earlier waits have matched
	more chan struct{}
}

func newConsole(in io.Writer, out io.Reader) *console {
	c := &console{in: in, ended: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer close(c.ended)
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			c.mu.Lock()
			c.text = append(c.text, buf[:n]...)
			c.mu.Unlock()
			select {
			case c.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *console) send(line string) { io.WriteString(c.in, line+"\n") } //nolint:errcheck // a dead machine is seen by await

func (c *console) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// await returns the first match of pattern behind the last one.
func (c *console) await(pattern string) ([]string, error) {
	re := regexp.MustCompile(pattern)
	limit := time.After(patience)
	for {
		c.mu.Lock()
		at := re.FindSubmatchIndex(c.text[c.read:])
		if at != nil {
			var groups []string
			for i := 0; i < len(at); i += 2 {
				groups = append(groups, string(c.text[c.read+at[i]:c.read+at[i+1]]))
			}
			c.read += at[1]
			c.mu.Unlock()
			return groups, nil
		}
		c.mu.Unlock()
		select {
		case <-c.more:
		case <-c.ended:
			return nil, fmt.Errorf("the machine ended before its console said %q", pattern)
		case <-limit:
			return nil, fmt.Errorf("after %v the console has not said %q", patience, pattern)
		}
	}
}

// monitor is QEMU's control connection.
type monitor struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// dial connects to the socket that QEMU makes as it starts: it does not run the guest before we say so.
func dial(t *testing.T, socket string) *monitor {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var conn net.Conn
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for conn == nil {
		select {
		case <-ctx.Done():
			t.Fatal("QEMU did not open its monitor")
		case <-tick.C:
			conn, _ = net.Dial("unix", socket) //nolint:errcheck // not there yet
		}
	}
	t.Cleanup(func() { conn.Close() })
	q := &monitor{t: t, conn: conn, in: bufio.NewReader(conn)}
	if _, err := q.in.ReadString('\n'); err != nil {
		t.Fatalf("read QEMU's greeting: %v", err)
	}
	q.do("qmp_capabilities", nil)
	return q
}

func (q *monitor) do(command string, arguments any) json.RawMessage {
	q.t.Helper()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	must(q.t, json.NewEncoder(q.conn).Encode(request))
	for {
		line, err := q.in.ReadBytes('\n')
		if err != nil {
			q.t.Fatalf("%s: %v", command, err)
		}
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  json.RawMessage `json:"error"`
		}
		must(q.t, json.Unmarshal(line, &answer))
		if answer.Error != nil {
			q.t.Fatalf("%s: %s", command, answer.Error)
		}
		if answer.Return != nil {
			return answer.Return
		}
	}
}

// extract takes a file out of an image that `make images` built.
func extract(t *testing.T, image, name string) string {
	t.Helper()
	a, err := images.Read(filepath.Join("..", "..", "out", "images", image+".tar"))
	if errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v: run `make images` first", err)
	}
	must(t, err)
	defer a.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), filepath.Base(name)))
	must(t, err)
	defer out.Close()
	if _, err := a.Images[0].ExtractFile(out, name, 1<<30); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	n, err := strconv.Atoi(port)
	must(t, err)
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type logWriter struct{ t *testing.T }

func (l *logWriter) Write(p []byte) (int, error) {
	l.t.Logf("qemu: %s", bytes.TrimSpace(p))
	return len(p), nil
}
