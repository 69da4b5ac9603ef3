package vmi

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/migration"
)

const moveUID = types.UID("5f1b8a56-0000-4000-8000-abcdefabcdef")

// awaitGuest plays a launcher that a guest will come to.
func (p *played) awaitGuest() wire.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = wire.State{State: wire.StateNone, Incoming: true, Since: time.Now()}
	for _, w := range p.watches {
		w <- wire.Event{State: p.state}
	}
	return p.state
}

func (p *played) migrations() wire.Handler {
	return wire.Handler{
		wire.MethodMigrate: func(ctx context.Context, call *wire.Call) error {
			var r wire.MigrateRequest
			if err := call.Decode(&r); err != nil {
				return err
			}
			switch {
			case r.LibvirtSocket == "":
				return &wire.Error{Code: wire.CodeInvalid, Message: "a migration needs sockets"}
			case p.script.MigrationFails == "when aborted":
				select {
				case <-p.aborted:
					return call.Reply(wire.MigrationProgress{Done: true, Aborted: true, Failure: "operation aborted"})
				case <-ctx.Done():
					return nil
				}
			case p.script.MigrationFails != "":
				return call.Reply(wire.MigrationProgress{Done: true, Failure: p.script.MigrationFails})
			}
			p.become(wire.StateShutoff, wire.ReasonMigrated)
			return call.Reply(wire.MigrationProgress{Done: true})
		},
		wire.MethodAbortMigration: wire.Action(func(context.Context, struct{}) error {
			select {
			case p.aborted <- struct{}{}:
			default:
			}
			return nil
		}),
		// Resume plays the guest's arrival.
		wire.MethodResume: wire.Getter(func(context.Context) (wire.State, error) {
			return p.become(wire.StateRunning, wire.ReasonMigrated), nil
		}),
	}
}

// migrates lets the handler of a world take part in migrations.
func (w *world) migrates() {
	changed := w.changed
	w.r.Migrations = &migration.Node{
		Context: w.t.Context(), Address: "10.0.0.9", Port: 8188, Receiver: &migration.Receiver{Log: logr.Discard()},
		Client: &tls.Config{MinVersion: tls.VersionTLS12}, Changed: func(pod types.NamespacedName) { changed <- pod },
	}
}

func (w *world) change(fn func(*v1.VirtualMachineInstance)) {
	w.t.Helper()
	vmi := w.vmi()
	fn(vmi)
	if err := w.client.Update(w.t.Context(), vmi); err != nil {
		w.t.Fatal(err)
	}
	w.reconcile()
}

func leaving() *v1.VirtualMachineInstanceMigrationState {
	return &v1.VirtualMachineInstanceMigrationState{
		MigrationUID: moveUID, Mode: v1.MigrationPreCopy, SourceNode: nodeName, SourcePod: "virt-launcher-web-x", TargetNode: "node02",
		TargetPod: "virt-launcher-web-y", TargetNodeAddress: "127.0.0.1", TargetDirectMigrationNodePorts: map[string]int{"1": 0},
	}
}

func failed(vmi *v1.VirtualMachineInstance) bool {
	m := vmi.Status.MigrationState
	return m != nil && m.Failed && m.Completed && m.EndTimestamp != nil
}

func TestGuestLeaves(t *testing.T) {
	w := newWorld(t, newVMI(), script{})
	w.migrates()
	w.until("running", running)
	before, _ := w.writes.seen()
	w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState = leaving() })
	vmi := w.until("begun", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.MigrationState.StartTimestamp != nil })
	if vmi.Status.MigrationState.Failed {
		t.Fatalf("migration: %+v", vmi.Status.MigrationState)
	}
	l := w.set.Ensure(w.ref())
	w.until("gone", func(*v1.VirtualMachineInstance) bool { return l.View().State.Reason == wire.ReasonMigrated })
	if got := w.reconcile(); got.RequeueAfter <= 0 {
		t.Errorf("does not wait for the target: %+v", got)
	}
	w.change(func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.NodeName, vmi.Labels[v1.NodeNameLabel], vmi.Status.MigrationState.Completed = "node02", "node02", true
	})
	w.until("the launcher has ended", func(*v1.VirtualMachineInstance) bool { return l.View().Peer == nil })
	if vmi := w.vmi(); vmi.Status.Phase != v1.Running || vmi.Status.NodeName != "node02" {
		t.Errorf("status: %+v", vmi.Status)
	}
	if after, _ := w.writes.seen(); after-before != 1 {
		t.Errorf("%d writes for a migration away, want 1", after-before)
	}
}

func TestGuestStays(t *testing.T) {
	for _, c := range []struct {
		name   string
		script script
		vmi    func(*v1.VirtualMachineInstance)
		change func(*v1.VirtualMachineInstanceMigrationState)
		want   string
		abort  v1.MigrationAbortStatus
	}{
		{name: "libvirt says no", script: script{MigrationFails: "no space left"}, want: "no space left"},
		{
			name: "aborted before it began", want: "aborted", abort: v1.MigrationAbortSucceeded,
			change: func(m *v1.VirtualMachineInstanceMigrationState) { m.AbortRequested, m.TargetNodeAddress = true, "" },
		},
		{
			name: "handler restarted", script: script{MigrationFails: "when aborted"}, want: "restarted",
			change: func(m *v1.VirtualMachineInstanceMigrationState) { now := metav1.Now(); m.StartTimestamp = &now },
		},
		{
			name: "an annotation asks for it", want: "annotation",
			vmi: func(vmi *v1.VirtualMachineInstance) {
				vmi.Annotations = map[string]string{v1.FuncTestForceLauncherMigrationFailureAnnotation: ""}
			},
		},
		{
			name: "a port of another version", want: "upgrade",
			change: func(m *v1.VirtualMachineInstanceMigrationState) {
				m.TargetDirectMigrationNodePorts = map[string]int{"1": 49152}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			guest := newVMI()
			if c.vmi != nil {
				c.vmi(guest)
			}
			w := newWorld(t, guest, c.script)
			w.migrates()
			w.until("running", running)
			w.change(func(vmi *v1.VirtualMachineInstance) {
				vmi.Status.MigrationState = leaving()
				if c.change != nil {
					c.change(vmi.Status.MigrationState)
				}
			})
			vmi := w.until("failed", failed)
			if m := vmi.Status.MigrationState; !strings.Contains(m.FailureReason, c.want) || m.AbortStatus != c.abort {
				t.Errorf("%+v", m)
			}
			if vmi.Status.Phase != v1.Running || vmi.Status.NodeName != nodeName {
				t.Errorf("status: %+v", vmi.Status)
			}
			if _, ok := w.set.Running(types.NamespacedName{Namespace: "default", Name: "web"}); !ok {
				t.Error("the guest does not run")
			}
		})
	}
}

// target is a world whose pod waits for a guest.
func target(t *testing.T) *world {
	t.Helper()
	vmi := newVMI()
	vmi.Status.Phase, vmi.Status.NodeName = v1.Running, "node02"
	vmi.Labels = map[string]string{v1.NodeNameLabel: "node02", v1.MigrationTargetNodeNameLabel: nodeName}
	w := newWorld(t, vmi, script{})
	w.migrates()
	pod := &corev1.Pod{}
	if err := w.client.Get(t.Context(), w.ref().Pod, pod); err != nil {
		t.Fatal(err)
	}
	pod.Labels[v1.MigrationJobLabel] = string(moveUID)
	if err := w.client.Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	w.change(func(vmi *v1.VirtualMachineInstance) {
		m := leaving()
		m.SourceNode, m.SourcePod, m.TargetNode, m.TargetPod = "node02", "virt-launcher-web-y", nodeName, "virt-launcher-web-x"
		m.TargetNodeAddress, m.TargetDirectMigrationNodePorts = "", nil
		vmi.Status.MigrationState = m
	})
	w.until("ready", func(vmi *v1.VirtualMachineInstance) bool {
		return vmi.Status.MigrationState.TargetNodeAddress == "10.0.0.9"
	})
	return w
}

func TestGuestArrives(t *testing.T) {
	w := target(t)
	vmi := w.vmi()
	if m := vmi.Status.MigrationState; len(m.TargetDirectMigrationNodePorts) != 1 || !w.r.Migrations.Receiver.Expects(moveUID) || vmi.Status.NodeName != "node02" {
		t.Fatalf("%+v", m)
	}
	w.change(func(vmi *v1.VirtualMachineInstance) {
		vmi.Status.EvacuationNodeName = "node02"
		vmi.Status.Conditions = append(vmi.Status.Conditions, v1.VirtualMachineInstanceCondition{
			Type: v1.VirtualMachineInstanceEvictionRequested, Status: corev1.ConditionTrue,
		})
	})
	before, _ := w.writes.seen()
	if _, err := w.set.Ensure(w.ref()).View().Peer.Client.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	vmi = w.until("here", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.NodeName == nodeName })
	m := vmi.Status.MigrationState
	if !m.Completed || m.Failed || m.EndTimestamp == nil || !m.TargetNodeDomainDetected || m.TargetNodeDomainReadyTimestamp == nil {
		t.Errorf("migration: %+v", m)
	}
	if _, ok := vmi.Labels[v1.MigrationTargetNodeNameLabel]; ok || vmi.Labels[v1.NodeNameLabel] != nodeName {
		t.Errorf("labels: %v", vmi.Labels)
	}
	if vmi.Status.EvacuationNodeName != "" || conditionOf(vmi, v1.VirtualMachineInstanceEvictionRequested) != nil {
		t.Errorf("the guest has left, the eviction still shows: %+v", vmi.Status)
	}
	if vmi.Status.Phase != v1.Running || vmi.Status.ActivePods[podUID] != nodeName || len(vmi.Status.Interfaces) != 1 || vmi.Status.Interfaces[0].IP != "10.244.0.5" {
		t.Errorf("status: %+v", vmi.Status)
	}
	w.reconcile()
	if after, events := w.writes.seen(); after-before != 1 || !slices.Contains(events, "Migrated") {
		t.Errorf("%d writes (want 1), events %v", after-before, events)
	}
}

// A migration that has failed leaves no launcher on the target.
func TestGuestDoesNotArrive(t *testing.T) {
	w := target(t)
	l := w.set.Ensure(w.ref())
	w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.Failed = true })
	w.until("the launcher has ended", func(*v1.VirtualMachineInstance) bool { return l.View().Peer == nil })
	if w.r.Migrations.Receiver.Expects(moveUID) {
		t.Error("streams are still let in")
	}
}

func TestTravelling(t *testing.T) {
	disk := func(dev, file, more string) string {
		return `<disk type="file" device="disk"><source file="` + file + `"/><target dev="` + dev + `"/>` + more + `</disk>`
	}
	got, err := travelling(`<domain><devices>` + disk("vda", layout.Disk("root"), "") + disk("vdb", layout.ISO("cloudinit"), "") +
		disk("vdc", layout.ClaimImage("data"), "") + disk("vdd", layout.Disk("ro"), "<readonly/>") + `<disk type="block"><source dev="/dev/x"/><target dev="vde"/></disk></devices></domain>`)
	if err != nil || !slices.Equal(got, []string{"vda"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// A connection cut in the moment of the handover can leave the guest on both sides; the object says who has it.
func TestGuestRunsOnBothSides(t *testing.T) {
	t.Run("the target was first", func(t *testing.T) {
		w := newWorld(t, newVMI(), script{})
		w.migrates()
		w.until("running", running)
		l := w.set.Ensure(w.ref())
		w.change(func(vmi *v1.VirtualMachineInstance) {
			vmi.Status.MigrationState = leaving()
			vmi.Status.NodeName, vmi.Labels[v1.NodeNameLabel], vmi.Status.MigrationState.Completed = "node02", "node02", true
		})
		w.until("the launcher has ended", func(*v1.VirtualMachineInstance) bool { return l.View().Peer == nil })
		if state := l.View().State; state.State != wire.StateShutoff || state.Reason != wire.ReasonDestroyed {
			t.Errorf("the source: %+v", state)
		}
		if vmi := w.vmi(); vmi.Status.Phase != v1.Running || vmi.Status.NodeName != "node02" {
			t.Errorf("status: %+v", vmi.Status)
		}
	})
	t.Run("the source was first", func(t *testing.T) {
		w := target(t)
		l := w.set.Ensure(w.ref())
		// The handler has not seen yet that the source has given up.
		w.changeUnseen(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.Failed = true })
		if _, err := l.View().Peer.Client.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.until("the launcher has ended", func(*v1.VirtualMachineInstance) bool { return l.View().Peer == nil })
		if vmi := w.vmi(); vmi.Status.NodeName != "node02" || vmi.Status.MigrationState.Completed {
			t.Errorf("status: %+v", vmi.Status)
		}
	})
}

func (w *world) changeUnseen(fn func(*v1.VirtualMachineInstance)) {
	w.t.Helper()
	vmi := w.vmi()
	fn(vmi)
	if err := w.client.Update(w.t.Context(), vmi); err != nil {
		w.t.Fatal(err)
	}
}

// A write that is computed from an older object does not undo what ended the migration.
func TestMigrationPatchTests(t *testing.T) {
	w := target(t)
	s := w.session(w.vmi())
	w.changeUnseen(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.Failed = true })
	now := metav1.Now()
	if err := s.writeMigration(t.Context(), func(m *v1.VirtualMachineInstanceMigrationState) { m.StartTimestamp = &now }, nil); err != nil {
		t.Fatal(err)
	}
	if m := w.vmi().Status.MigrationState; m.StartTimestamp != nil || !m.Failed {
		t.Errorf("migration: %+v", m)
	}
}

// A guest that left and that nobody has is lost, and the object says so.
func TestGuestLost(t *testing.T) {
	w := newWorld(t, newVMI(), script{})
	w.migrates()
	w.until("running", running)
	l := w.set.Ensure(w.ref())
	w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState = leaving() })
	w.until("gone", func(*v1.VirtualMachineInstance) bool { return l.View().State.Reason == wire.ReasonMigrated })
	w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState.Failed = true })
	w.until("failed", func(vmi *v1.VirtualMachineInstance) bool { return vmi.Status.Phase == v1.Failed })
}

// An abort ends a migration that runs, whether it was asked for or the migration was called off.
func TestMigrationAborted(t *testing.T) {
	for name, ask := range map[string]func(*v1.VirtualMachineInstanceMigrationState){
		"asked for":  func(m *v1.VirtualMachineInstanceMigrationState) { m.AbortRequested = true },
		"called off": func(m *v1.VirtualMachineInstanceMigrationState) { m.Failed, m.FailureReason = true, "cancelled" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newVMI(), script{MigrationFails: "when aborted"})
			w.migrates()
			w.until("running", running)
			w.change(func(vmi *v1.VirtualMachineInstance) { vmi.Status.MigrationState = leaving() })
			mem := w.r.memory.of(w.ref())
			if mem.run == nil || w.vmi().Status.MigrationState.StartTimestamp == nil {
				t.Fatal("no migration runs")
			}
			w.change(func(vmi *v1.VirtualMachineInstance) { ask(vmi.Status.MigrationState) })
			vmi := w.until("ended", func(vmi *v1.VirtualMachineInstance) bool { return mem.run == nil && vmi.Status.MigrationState.Failed })
			if m := vmi.Status.MigrationState; m.AbortRequested != (m.AbortStatus == v1.MigrationAbortSucceeded) {
				t.Errorf("migration: %+v", m)
			}
			if vmi.Status.NodeName != nodeName || vmi.Status.Phase != v1.Running {
				t.Errorf("status: %+v", vmi.Status)
			}
		})
	}
}
