//go:build libvirt

package launcher_test

import (
	"bytes"
	"encoding/json"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// Everything a user can do to a running guest, on one guest.
func TestCallsToARunningGuest(t *testing.T) {
	p := newPod(t, podOptions{volumes: map[string][]byte{
		"kubevirt-private/vmi-disks/claim/keep":   nil,
		"kubevirt-private/cloud-init/ci/userdata": []byte("#cloud-config\nhostname: web\nruncmd:\n- echo seed-was-read > /dev/console\n"),
	}})
	prepared, err := p.Prepare(p.context(), wire.PrepareRequest{Disks: []wire.DiskSpec{
		{Name: "claim", Kind: wire.DiskFile, Source: layout.ClaimImage("claim"), Create: true, Capacity: 64 << 20},
		{Name: "extra", Kind: wire.DiskEmpty, Capacity: 32 << 20},
		{
			Name: "ci", Kind: wire.DiskISO, Label: "cidata", Files: []wire.ISOFile{{Path: "user-data", From: filepath.Join(layout.CloudInit("ci"), "userdata")}},
			CloudInit: &wire.CloudInit{Type: "nocloud", InstanceID: "i-1", Hostname: "web"},
		},
	}})
	must(t, err)
	iso := prepared.Disks[2]
	p.start(domainXML(`<controller type='scsi' model='virtio-scsi'/><disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='native' error_policy='stop'/><source file='` + prepared.Disks[0].Path + `'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='` + iso.Path + `'/><target dev='sda' bus='sata'/><readonly/></disk>`))
	w := p.watch()
	p.stdout.await(t, "seed-was-read")
	c := p.terminal()
	c.login()
	w.next("agent connected", func(e wire.Event) bool { return e.State.AgentConnected })

	t.Run("guest info", func(t *testing.T) {
		info, err := p.GuestInfo(p.context())
		if err != nil || info.OS.KernelRelease == "" || info.AgentVersion == "" || info.FSFreeze != "thawed" || info.Hostname != "web" {
			t.Errorf("%+v, %v", info, err)
		}
	})
	t.Run("agent", func(t *testing.T) {
		answer, err := p.Agent(p.context(), wire.AgentRequest{Command: `{"execute":"guest-ping"}`})
		if err != nil || !json.Valid(answer) {
			t.Errorf("%s, %v", answer, err)
		}
		_, err = p.Agent(p.context(), wire.AgentRequest{Command: `not JSON`})
		if wire.CodeOf(err) != wire.CodeInvalid {
			t.Errorf("nonsense: %v", err)
		}
		_, err = p.Agent(p.context(), wire.AgentRequest{Command: `{"execute":"guest-make-coffee"}`})
		if wire.CodeOf(err) != wire.CodeInvalid {
			t.Errorf("a command the agent does not know: %v", err)
		}
	})
	t.Run("exec probes", func(t *testing.T) {
		if code, out := p.exec("agent-ping"); code != 0 || out != "" {
			t.Errorf("agent-ping: %d, %q", code, out)
		}
		if code, out := p.exec("agent-exec", "--", "/bin/sh", "-c", "echo from-the-guest"); code != 0 || out != "from-the-guest\n" {
			t.Errorf("agent-exec: %d, %q", code, out)
		}
		if code, _ := p.exec("agent-exec", "--timeout", "30", "/bin/sh", "-c", "exit 7"); code != 7 {
			t.Errorf("agent-exec of a command that fails: %d", code)
		}
		if code, out := p.exec("agent-exec", "--timeout", "1", "/bin/sleep", "30"); code != 1 || !strings.Contains(out, "did not end") {
			t.Errorf("agent-exec of a command that takes too long: %d, %q", code, out)
		}
		if code, out := p.exec("agent-exec", "/nothing"); code != 1 || out == "" {
			t.Errorf("agent-exec of a program that is not there: %d, %q", code, out)
		}
		if code, _ := p.exec("agent-exec"); code != 2 {
			t.Errorf("agent-exec without a command: %d", code)
		}
	})
	t.Run("stats", func(t *testing.T) {
		stats, err := p.Stats(p.context())
		if err != nil || stats.Values["cpu.time"] == 0 || stats.Values["balloon.current"] == 0 || stats.Names["block.0.name"] != "vda" || stats.Values["vcpu.current"] != 1 {
			t.Errorf("%+v, %v", stats, err)
		}
	})
	t.Run("screenshot and VNC", func(t *testing.T) {
		shot, err := p.Screenshot(p.context())
		must(t, err)
		picture, err := png.Decode(bytes.NewReader(shot.Data))
		if err != nil || picture.Bounds().Dx() < 320 || shot.MediaType != "image/png" {
			t.Errorf("%v, %v", shot.MediaType, err)
		}
		vnc, err := p.VNC(p.context())
		must(t, err)
		defer vnc.Close()
		hello := make([]byte, 4)
		if _, err := io.ReadFull(vnc, hello); err != nil || string(hello) != "RFB " {
			t.Errorf("%q, %v", hello, err)
		}
	})
	t.Run("hot plug", func(t *testing.T) {
		disk := `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='` + prepared.Disks[1].Path + `'/><target dev='sdb' bus='scsi'/><alias name='ua-extra'/></disk>`
		must(t, p.Attach(p.context(), disk))
		c.send("until [ -b /dev/sda ]; do usleep 50000; done; echo disk''-there")
		c.await("disk-there")
		must(t, p.Detach(p.context(), disk))
		if xml, err := p.DomainXML(p.context(), wire.DomainXMLRequest{}); err != nil || strings.Contains(xml, "ua-extra") {
			t.Errorf("the disk is still there: %v", err)
		}
		if err := p.Detach(p.context(), disk); wire.CodeOf(err) != wire.CodeNotFound && wire.CodeOf(err) != wire.CodeInvalid {
			t.Errorf("detaching twice: %v (%s)", err, wire.CodeOf(err))
		}
	})
	t.Run("freeze", func(t *testing.T) {
		must(t, p.Freeze(p.context(), wire.FreezeRequest{TimeoutSeconds: 60}))
		w.next("frozen", func(e wire.Event) bool { return e.Filesystems })
		must(t, p.Thaw(p.context()))
		w.next("thawed", func(e wire.Event) bool { return e.Filesystems })
	})
	t.Run("pause", func(t *testing.T) {
		state, err := p.Suspend(p.context())
		if err != nil || state.State != wire.StatePaused || state.Reason != wire.ReasonUser {
			t.Errorf("%+v, %v", state, err)
		}
		if _, err := p.GuestInfo(p.context()); wire.CodeOf(err) != wire.CodeConflict {
			t.Errorf("guest info of a paused guest: %v", err)
		}
		_, err = p.Resume(p.context())
		must(t, err)
		w.state(wire.StatePaused)
		w.state(wire.StateRunning)
	})
	t.Run("second console ends the first", func(t *testing.T) {
		second := p.terminal()
		must(t, c.file.SetReadDeadline(time.Now().Add(patience)))
		if _, err := io.Copy(io.Discard, c.r); err != nil {
			t.Errorf("the first session: %v", err)
		}
		second.send("echo second''-session")
		second.await("second-session")
		c = second
	})
	t.Run("reset", func(t *testing.T) {
		_, err := p.Reset(p.context())
		must(t, err)
		w.next("rebooted", func(e wire.Event) bool { return e.Rebooted })
		w.next("agent gone", func(e wire.Event) bool { return !e.State.AgentConnected })
		w.next("agent back", func(e wire.Event) bool { return e.State.AgentConnected })
	})
	t.Run("reboot by the agent", func(t *testing.T) {
		must(t, p.Reboot(p.context()))
		w.next("rebooted", func(e wire.Event) bool { return e.Rebooted })
		w.next("agent gone", func(e wire.Event) bool { return !e.State.AgentConnected })
		w.next("agent back", func(e wire.Event) bool { return e.State.AgentConnected })
	})
	t.Run("shutdown by the agent", func(t *testing.T) {
		must(t, p.Shutdown(p.context(), wire.ShutdownRequest{Agent: true}))
		if end := w.state(wire.StateShutoff); end.Reason != wire.ReasonShutdown {
			t.Errorf("%+v", end)
		}
		if _, err := os.Stat(p.path(layout.ClaimImage("claim"))); err != nil {
			t.Errorf("the claim's disk: %v", err)
		}
	})
}
