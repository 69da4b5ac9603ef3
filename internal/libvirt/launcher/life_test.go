//go:build libvirt

package launcher_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// A whole life: prepare, start, console, power off on SIGTERM, exit 0. The pod's resolver does not answer.
func TestLifeOfAGuest(t *testing.T) {
	p := newPod(t, podOptions{})
	w := p.watch()
	p.start(domainXML(""))
	w.state(wire.StateRunning)
	c := p.terminal()
	c.login()
	c.send("echo $((6*7))")
	c.await("42")
	p.stdout.await(t, "demo guest: up")
	w.next("agent connected", func(e wire.Event) bool { return e.State.AgentConnected })
	t.Logf("PSS: launcher %d KiB, libvirtd %d KiB", pss(t, p.cmd.Process.Pid), pss(t, p.pidOf("libvirtd")))
	began := time.Now()
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	end := w.state(wire.StateShutoff)
	if end.Reason != wire.ReasonShutdown {
		t.Errorf("the guest ended with %+v", end)
	}
	must(t, p.Quit(p.context()))
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("power off took %s", time.Since(began))
}

// capabilitiesCache is what libvirt in a pod has learnt about QEMU.
func (p *pod) capabilitiesCache() map[string][]byte {
	p.t.Helper()
	dir := p.path(layout.CacheDir + "/libvirt/qemu/cache/capabilities")
	entries, err := os.ReadDir(dir)
	must(p.t, err)
	files := map[string][]byte{}
	for _, e := range entries {
		files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name()))
		must(p.t, err)
	}
	return files
}

// With what the node knows already, a start is QEMU's own start and little more. The bound is for a busy machine; the figure is
// in the log.
func TestStartIsFastWithACapabilitiesCache(t *testing.T) {
	first := newPod(t, podOptions{})
	first.start(domainXML(""))
	cache := first.capabilitiesCache()
	if len(cache) != 1 {
		t.Fatalf("%d files in libvirt's cache", len(cache))
	}
	first.remove()
	p := newPod(t, podOptions{})
	_, err := p.Prepare(p.context(), wire.PrepareRequest{CapabilitiesCache: cache})
	must(t, err)
	before, err := os.Stat(p.path(layout.CacheDir + "/libvirt/qemu/cache/capabilities"))
	must(t, err)
	began := time.Now()
	_, err = p.Start(p.context(), wire.StartRequest{XML: domainXML("")})
	must(t, err)
	took := time.Since(began)
	t.Logf("start took %s", took)
	if took > 2*time.Second {
		t.Errorf("start took %s", took)
	}
	after, err := os.Stat(p.path(layout.CacheDir + "/libvirt/qemu/cache/capabilities"))
	must(t, err)
	if !after.ModTime().Equal(before.ModTime()) {
		t.Error("libvirt wrote its cache again: it did not believe ours")
	}
}

// QEMU's death is told with its reason, and the launcher waits for the handler to take note.
func TestQEMUKilled(t *testing.T) {
	p := newPod(t, podOptions{})
	p.start(domainXML(""))
	w := p.watch()
	w.state(wire.StateRunning)
	must(t, syscall.Kill(p.pidOf("qemu-system"), syscall.SIGKILL))
	end := w.state(wire.StateCrashed)
	if end.Reason != wire.ReasonCrashed || !strings.Contains(end.Detail, "killed by signal 9") {
		t.Errorf("the end: %+v", end)
	}
	if _, err := p.Start(p.context(), wire.StartRequest{XML: domainXML("")}); wire.CodeOf(err) != wire.CodeConflict {
		t.Errorf("a second start in one pod: %v", err)
	}
	if _, err := p.Console(p.context(), true); wire.CodeOf(err) != wire.CodeNotFound {
		t.Errorf("console of a dead guest: %v", err)
	}
	if _, err := p.VNC(p.context()); err == nil {
		t.Errorf("VNC of a dead guest")
	}
	must(t, p.Quit(p.context()))
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// libvirt's daemon may die; the guest must not notice, and its end must not be missed.
func TestDaemonKilled(t *testing.T) {
	p := newPod(t, podOptions{})
	p.start(domainXML(""))
	w := p.watch()
	w.state(wire.StateRunning)
	w.next("agent connected", func(e wire.Event) bool { return e.State.AgentConnected })
	qemu := p.pidOf("qemu-system")
	must(t, syscall.Kill(p.pidOf("libvirtd"), syscall.SIGKILL))
	xml, err := p.DomainXML(p.context(), wire.DomainXMLRequest{})
	if err != nil || !strings.Contains(xml, "default_web") {
		t.Fatalf("after the daemon's death: %v", err)
	}
	if now := p.pidOf("qemu-system"); now != qemu {
		t.Fatalf("another QEMU: %d, was %d", now, qemu)
	}
	state, err := p.State(p.context())
	if err != nil || state.State != wire.StateRunning || !state.AgentConnected {
		t.Fatalf("the state after the daemon's death: %+v, %v", state, err)
	}
	if _, err := p.GuestInfo(p.context()); err != nil {
		t.Errorf("the agent after the daemon's death: %v", err)
	}
	state, err = p.Suspend(p.context())
	if err != nil || state.State != wire.StatePaused || state.Reason != wire.ReasonUser {
		t.Fatalf("suspend: %+v, %v", state, err)
	}
	w.state(wire.StatePaused)
	state, err = p.Resume(p.context())
	if err != nil || state.State != wire.StateRunning {
		t.Fatalf("resume: %+v, %v", state, err)
	}
	w.state(wire.StateRunning)
	must(t, syscall.Kill(p.pidOf("libvirtd"), syscall.SIGSTOP))
	must(t, syscall.Kill(qemu, syscall.SIGKILL))
	must(t, syscall.Kill(p.pidOf("libvirtd"), syscall.SIGKILL))
	if end := w.state(wire.StateCrashed); end.Reason != wire.ReasonCrashed {
		t.Errorf("the end: %+v", end)
	}
}

// A guest that ignores the power button is ended when its grace period is over.
func TestGracePeriodEnds(t *testing.T) {
	p := newPod(t, podOptions{})
	_, err := p.Prepare(p.context(), wire.PrepareRequest{})
	must(t, err)
	_, err = p.Start(p.context(), wire.StartRequest{XML: strings.Replace(domainXML(""), "<acpi/>", "", 1), GracePeriodSeconds: 1})
	must(t, err)
	w := p.watch()
	w.state(wire.StateRunning)
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	if end := w.state(wire.StateShutoff); end.Reason != wire.ReasonDestroyed {
		t.Errorf("the end: %+v", end)
	}
	must(t, p.Quit(p.context()))
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A start that libvirt or QEMU refuses says why and can be tried again.
func TestStartThatFails(t *testing.T) {
	p := newPod(t, podOptions{})
	missing := `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/run/nothing.img'/><target dev='vda' bus='virtio'/></disk>`
	_, err := p.Start(p.context(), wire.StartRequest{XML: domainXML(missing)})
	if err == nil || !strings.Contains(err.Error(), "/run/nothing.img") {
		t.Fatalf("a missing disk: %v", err)
	}
	_, err = p.Start(p.context(), wire.StartRequest{XML: "<domain/>"})
	if wire.CodeOf(err) != wire.CodeInvalid {
		t.Fatalf("an empty document: %v (%s)", err, wire.CodeOf(err))
	}
	_, err = p.Start(p.context(), wire.StartRequest{XML: strings.Replace(domainXML(""), "machine='q35'", "machine='pc-q35-99.9'", 1)})
	if err == nil || !strings.Contains(err.Error(), "pc-q35-99.9") {
		t.Fatalf("an unknown machine: %v", err)
	}
	p.start(domainXML(""))
	state, err := p.Destroy(p.context())
	if err != nil || state.State != wire.StateShutoff || state.Reason != wire.ReasonDestroyed {
		t.Fatalf("destroy: %+v, %v", state, err)
	}
	if _, err := p.Destroy(p.context()); err != nil {
		t.Errorf("destroying twice: %v", err)
	}
}

// A pod that is deleted before its guest was started ends at once, and its code says that nothing ran.
func TestTerminatedBeforeStart(t *testing.T) {
	p := newPod(t, podOptions{})
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	if code := p.wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

// blackHole makes the pod's name server one that never answers.
const blackHole = `ip link add dead0 type bridge
ip link set dead0 up
ip link add dead1 type veth peer name dead2
ip link set dead1 master dead0
ip link set dead1 up
ip link set dead2 up
ip address add 10.255.255.1/24 dev dead0
ip neighbor add 10.255.255.53 lladdr 02:00:00:00:00:53 dev dead0
`

// Cluster DNS may be down: nothing a launcher does may wait for it, even where /etc/hosts does not know the pod's own name.
func TestLifeWithoutDNS(t *testing.T) {
	p := newPod(t, podOptions{setup: blackHole})
	began := time.Now()
	p.start(domainXML(""))
	started := time.Since(began)
	w := p.watch()
	w.state(wire.StateRunning)
	began = time.Now()
	_, err := p.Destroy(p.context())
	must(t, err)
	t.Logf("start %s, destroy %s", started, time.Since(began))
	if started > 15*time.Second || time.Since(began) > 10*time.Second {
		t.Error("something waits for DNS")
	}
}

// A guest that shall start paused has not run a single instruction, and its console can be quiet in the log.
func TestStartPaused(t *testing.T) {
	p := newPod(t, podOptions{})
	state, err := p.Start(p.context(), wire.StartRequest{XML: domainXML(""), Paused: true, DisableConsoleLog: true})
	if err != nil || state.State != wire.StatePaused || state.Reason != wire.ReasonUser {
		t.Fatalf("%+v, %v", state, err)
	}
	again, err := p.Start(p.context(), wire.StartRequest{XML: domainXML("")})
	if err != nil || again.State != wire.StatePaused {
		t.Fatalf("starting twice: %+v, %v", again, err)
	}
	c := p.terminal()
	state, err = p.Resume(p.context())
	if err != nil || state.State != wire.StateRunning {
		t.Fatalf("%+v, %v", state, err)
	}
	c.await("demo guest: up")
	if out := p.stdout.String(); out != "" {
		t.Errorf("the log has %q", out)
	}
}
