//go:build libvirt

package launcher_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// domainXML is a domain as virt-handler makes them, with devices to add.
func domainXML(devices string) string {
	return `<domain type='qemu'>
<name>default_web</name><uuid>6f1a2b3c-0000-4000-8000-000000000001</uuid>
<memory unit='MiB'>160</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>/run/boot/vmlinuz</kernel><initrd>/run/boot/initrd</initrd><cmdline>console=ttyS0,115200n8 quiet</cmdline></os>
<features><acpi/><apic/></features>
<cpu mode='maximum'/>
<clock offset='utc'/>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='usb' model='none'/>
<controller type='virtio-serial'/>
<controller type='pci' index='1' model='pcie-root-port'/><controller type='pci' index='2' model='pcie-root-port'/>
<controller type='pci' index='3' model='pcie-root-port'/><controller type='pci' index='4' model='pcie-root-port'/>
<controller type='pci' index='5' model='pcie-root-port'/><controller type='pci' index='6' model='pcie-root-port'/>
<controller type='pci' index='7' model='pcie-root-port'/><controller type='pci' index='8' model='pcie-root-port'/>
<controller type='pci' index='9' model='pcie-root-port'/><controller type='pci' index='10' model='pcie-root-port'/>
<serial type='unix'><source mode='bind' path='` + layout.SerialSocket + `'/><target port='0'/></serial>
<console type='unix'><source mode='bind' path='` + layout.SerialSocket + `'/><target type='serial' port='0'/></console>
<channel type='unix'><source mode='bind' path='` + layout.AgentSocket + `'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<graphics type='vnc' socket='` + layout.VNCSocket + `'/>
<video><model type='vga' vram='16384' heads='1'/></video>
<memballoon model='virtio'><stats period='10'/></memballoon>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
` + devices + `</devices></domain>`
}

func (p *pod) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(cancel)
	return ctx
}

// start prepares and starts a guest and checks that it runs.
func (p *pod) start(xml string, disks ...wire.DiskSpec) wire.PrepareResult {
	p.t.Helper()
	prepared, err := p.Prepare(p.context(), wire.PrepareRequest{Disks: disks})
	must(p.t, err)
	state, err := p.Start(p.context(), wire.StartRequest{XML: xml, GracePeriodSeconds: 60})
	must(p.t, err)
	if state.State != wire.StateRunning || state.Reason != wire.ReasonBooted {
		p.t.Fatalf("after start: %+v", state)
	}
	return prepared
}

// watch collects events; next waits for one that fits.
type watch struct {
	t      *testing.T
	events chan wire.Event
}

func (p *pod) watch() *watch {
	w := &watch{t: p.t, events: make(chan wire.Event, 256)}
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	go func() {
		_ = p.Watch(ctx, func(e wire.Event) error { w.events <- e; return nil })
		close(w.events)
	}()
	return w
}

func (w *watch) next(what string, fits func(wire.Event) bool) wire.Event {
	w.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var seen []string
	for {
		select {
		case e, ok := <-w.events:
			if !ok {
				w.t.Fatalf("the watch ended before %s; seen: %s", what, strings.Join(seen, " | "))
			}
			if fits(e) {
				return e
			}
			seen = append(seen, fmt.Sprintf("%+v", e))
		case <-timer.C:
			w.t.Fatalf("no event %s; seen: %s", what, strings.Join(seen, " | "))
		}
	}
}

func (w *watch) state(state wire.DomainState) wire.State {
	w.t.Helper()
	return w.next(string(state), func(e wire.Event) bool { return e.State.State == state }).State
}

// terminal is a console session.
type terminal struct {
	t    *testing.T
	file *os.File
	r    *bufio.Reader
	seen strings.Builder
}

func (p *pod) terminal() *terminal {
	p.t.Helper()
	f, err := p.Console(p.context(), true)
	must(p.t, err)
	p.t.Cleanup(func() { _ = f.Close() })
	return &terminal{t: p.t, file: f, r: bufio.NewReader(f)}
}

// await reads until text has come.
func (c *terminal) await(text string) {
	c.t.Helper()
	must(c.t, c.file.SetReadDeadline(time.Now().Add(patience)))
	for !strings.Contains(c.seen.String(), text) {
		b, err := c.r.ReadByte()
		if err != nil {
			c.t.Fatalf("the console ended before %q: %v\n%s", text, err, c.seen.String())
		}
		c.seen.WriteByte(b)
	}
	rest := c.seen.String()
	rest = rest[strings.Index(rest, text)+len(text):]
	c.seen.Reset()
	c.seen.WriteString(rest)
}

func (c *terminal) send(line string) {
	c.t.Helper()
	_, err := c.file.WriteString(line + "\n")
	must(c.t, err)
}

// login logs in to the demo guest.
func (c *terminal) login() {
	c.t.Helper()
	c.await("login:")
	c.send("root")
	c.await("# ")
}
