package launcher

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"virtctl/internal/libvirt/wire"
)

func at(seconds int64) func() time.Time { return func() time.Time { return time.Unix(seconds, 0) } }

// collect returns what a new watcher is told until it has seen n events.
func collect(t *testing.T, m *machine, n int) []wire.Event {
	t.Helper()
	enough := errors.New("enough")
	var seen []wire.Event
	err := m.watch(context.Background(), func(e wire.Event) error {
		if seen = append(seen, e); len(seen) == n {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return seen
}

func TestTheFinalStateStays(t *testing.T) {
	m := newMachine(at(1))
	m.set(wire.StateRunning, wire.ReasonBooted, "")
	m.setAgent(true)
	m.set(wire.StateShutoff, wire.ReasonShutdown, "")
	m.set(wire.StateRunning, wire.ReasonUnpaused, "")
	m.setAgent(true)
	got := m.current()
	if got.State != wire.StateShutoff || got.Reason != wire.ReasonShutdown || got.AgentConnected || !m.started() {
		t.Fatalf("%+v", got)
	}
	<-m.ended
}

// libvirt tells of the end of a domain that failed to start; the pod can still start one.
func TestAFailedStartIsNoEnd(t *testing.T) {
	m := newMachine(at(1))
	m.set(wire.StateCrashed, wire.ReasonCrashed, "")
	if m.current().State != wire.StateNone || m.started() {
		t.Fatalf("%+v", m.current())
	}
}

func TestAGuestThatNeverCameDidNotCrash(t *testing.T) {
	m := newMachine(at(1))
	m.setIncoming()
	m.set(wire.StatePaused, wire.ReasonMigration, "")
	m.set(wire.StateCrashed, wire.ReasonCrashed, "x")
	if got := m.current(); got.State != wire.StateShutoff || got.Reason != wire.ReasonFailed || !got.Incoming {
		t.Fatalf("%+v", got)
	}
}

func TestAnArrivedGuestIsNotIncoming(t *testing.T) {
	m := newMachine(at(1))
	m.setIncoming()
	m.set(wire.StateRunning, wire.ReasonMigrated, "")
	if got := m.current(); got.Incoming || !m.started() {
		t.Fatalf("%+v", got)
	}
}

func TestReasonsKeepTheirMeaning(t *testing.T) {
	m := newMachine(at(1))
	m.set(wire.StateRunning, wire.ReasonBooted, "")
	m.set(wire.StateRunning, wire.ReasonUnpaused, "") // libvirt's name for what Start did
	if m.current().Reason != wire.ReasonBooted {
		t.Errorf("%+v", m.current())
	}
	m.now = at(2)
	m.set(wire.StatePaused, wire.ReasonUser, "")
	m.now = at(3)
	m.set(wire.StatePaused, wire.ReasonIOError, "")
	if got := m.current(); got.Reason != wire.ReasonIOError || !got.Since.Equal(time.Unix(2, 0)) {
		t.Errorf("%+v", got)
	}
}

func TestWatchersSeeEveryEventOrThePresent(t *testing.T) {
	m := newMachine(at(1))
	m.set(wire.StateRunning, wire.ReasonBooted, "")
	go func() { m.rebooted(); m.deviceRemoved("ua-disk") }()
	seen := collect(t, m, 3)
	if seen[0].State.State != wire.StateRunning || !seen[1].Rebooted || seen[2].DeviceRemoved != "ua-disk" {
		t.Fatalf("%+v", seen)
	}
	before := m.count
	for range 3 * keptEvents {
		m.rebooted()
	}
	missed, count, _ := m.since(before)
	if len(missed) != 1 || missed[0].Rebooted || missed[0].State.State != wire.StateRunning || count != m.count {
		t.Fatalf("a watcher that lags is told %+v", missed)
	}
	if m.watched() {
		t.Error("nobody watches")
	}
}

func TestLastWordsAreQEMUs(t *testing.T) {
	log := "2026-11-22 22:17:03.336+0000: starting up libvirt version: 11.3.0, qemu version: 10.0\nold\n" +
		"2026-11-22 22:18:03.336+0000: starting up libvirt version: 11.3.0, qemu version: 10.0\nLC_ALL=C \\\nPATH=/usr/bin \\\n/usr/bin/qemu-system-x86_64 \\\n-name guest=x \\\n-msg timestamp=on\n" +
		"2026-11-22 22:18:04.000+0000: Domain id=1 is tainted: host-cpu\nqemu-system-x86_64: \x1b[31mcannot\x00 set up memory\n2026-11-22 22:19:03.336+0000: shutting down, reason=crashed\n"
	if got := lastWords(log); got != "qemu-system-x86_64: [31mcannot set up memory" {
		t.Errorf("%q", got)
	}
	if got := lastWords(strings.Repeat("long line\n", 10000)); len(got) > maxDetail+8 {
		t.Errorf("%d bytes", len(got))
	}
}

func FuzzLastWords(f *testing.F) {
	f.Add(": starting up libvirt version\nx \\\ny\nz")
	f.Fuzz(func(t *testing.T, log string) {
		if got := lastWords(log); len(got) > maxDetail+8 || strings.ContainsAny(got, "\n\x1b\x00") {
			t.Fatalf("%q", got)
		}
	})
}

func came(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Credentials go to the guest when its agent can be asked: not while the guest stands still, and not twice for one coming.
func TestTheAgentsComingIsTold(t *testing.T) {
	m := newMachine(at(1))
	m.setAgent(true)
	if came(m.came) || m.agentReachable() {
		t.Fatal("an agent without a running guest")
	}
	m.set(wire.StateRunning, wire.ReasonBooted, "")
	if !came(m.came) || !m.agentReachable() {
		t.Fatal("the agent has come and nobody knows")
	}
	m.set(wire.StatePaused, wire.ReasonUser, "")
	m.set(wire.StateRunning, wire.ReasonUnpaused, "")
	if came(m.came) || !came(m.changed) {
		t.Fatal("a guest that goes on is no agent that comes, but can be asked again")
	}
	m.setAgent(false)
	m.setAgent(true)
	if !came(m.came) {
		t.Fatal("the agent has come again and nobody knows")
	}
}

func TestCredentialsAreInTheState(t *testing.T) {
	m := newMachine(at(1))
	m.setCredentials(wire.CredentialsState{Reason: wire.CredentialsNoAgent, Message: "m"})
	if m.count != 0 {
		t.Error("a launcher without a domain says something about it")
	}
	m.set(wire.StateRunning, wire.ReasonBooted, "")
	for range 2 {
		m.setCredentials(wire.CredentialsState{Synchronized: true})
	}
	if got := m.current().Credentials; m.count != 2 || got == nil || !got.Synchronized {
		t.Errorf("%d events, %+v", m.count, got)
	}
}

// No time passes for a guest that stands still: its agent is asked to set its clock, and only then.
func TestAGuestThatStoodStillIsLate(t *testing.T) {
	late := func(m *machine) bool {
		select {
		case <-m.late:
			return true
		default:
			return false
		}
	}
	m := newMachine(at(1))
	m.set(wire.StatePaused, wire.ReasonUser, "") // started paused
	m.set(wire.StateRunning, wire.ReasonUnpaused, "")
	m.setAgent(true)
	if late(m) {
		t.Error("a guest that was never paused is late")
	}
	m.set(wire.StatePaused, wire.ReasonUser, "")
	if late(m) {
		t.Error("a paused guest is asked to set its clock")
	}
	m.set(wire.StateRunning, wire.ReasonUnpaused, "")
	if !late(m) {
		t.Error("an unpaused guest is not late")
	}
	m.setMemory(1)
	if late(m) {
		t.Error("it is late twice")
	}
	m.stoodStill()
	m.setAgent(false)
	m.setAgent(true)
	if !late(m) {
		t.Error("an agent that did not answer is not asked again when it comes back")
	}

	m = newMachine(at(1))
	m.setIncoming()
	m.set(wire.StateRunning, wire.ReasonMigrated, "")
	if late(m) {
		t.Error("nobody is there to be asked")
	}
	m.setAgent(true)
	if !late(m) {
		t.Error("a guest that has come is not late")
	}
}
