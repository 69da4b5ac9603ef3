package vmi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/migrationprogress"
	"virtctl/internal/server/handler/devices"
	"virtctl/internal/server/handler/migration"
	"virtctl/internal/server/handler/status"
)

// farewell is how long the target may take to say that a guest that has left here has come there.
const farewell = 60 * time.Second

// migrating gives the migration in which this pod has a part, nil if there is none.
func (s *session) migrating() *v1.VirtualMachineInstanceMigrationState {
	if s.r.Migrations == nil {
		return nil
	}
	return s.vmi.Status.MigrationState
}

// moved tells that a migration has succeeded. One that has failed is completed, too (contract).
func moved(m *v1.VirtualMachineInstanceMigrationState) bool { return m.Completed && !m.Failed }

// departing tells that the guest shall leave, and that its target waits for it.
func (s *session) departing() bool {
	m := s.migrating()
	if m == nil || m.SourcePod != s.pod.Name || m.SourceNode != s.r.NodeName || moved(m) {
		return false
	}
	if m.Failed || m.EndTimestamp != nil {
		return s.mem.run != nil // somebody has called it off while it ran
	}
	return m.AbortRequested || s.mem.run != nil || m.TargetNodeAddress != "" && len(m.TargetDirectMigrationNodePorts) > 0
}

// departed tells that the guest has left.
func (s *session) departed() bool {
	m := s.migrating()
	if m == nil || !over(s.view.State.State) || s.view.State.Incoming {
		return false
	}
	return s.view.State.Reason == wire.ReasonMigrated || s.handedOver()
}

// handedOver tells that the migration's target has said that it has the guest.
func (s *session) handedOver() bool {
	m := s.migrating()
	return m != nil && moved(m) && m.SourcePod == s.pod.Name && m.SourceNode == s.r.NodeName && s.vmi.Status.NodeName != s.r.NodeName
}

// doubled tells that the guest runs here although its target has it. That takes a connection cut in the very moment the guest was
// handed over: then libvirt lets it go on on both sides, and whose word the object got first decides.
func (s *session) doubled() bool {
	return s.handedOver() && s.view.State.State == wire.StateRunning && (s.mem.run == nil || s.mem.run.Outcome() != nil)
}

// kill ends a second run of the guest. What the object says of the first is not touched.
func (s *session) kill(ctx context.Context) error {
	if s.view.Peer == nil {
		return nil // its connection brings us back
	}
	ctrl.LoggerFrom(ctx).Info("the guest runs on two nodes; ending it on this one", "vmi", s.ref.VMI, "migration", s.migrating().MigrationUID)
	if _, err := s.view.Peer.Client.Destroy(ctx); err != nil && !ended(err) {
		return fmt.Errorf("end the second run of %s: %w", s.ref.VMI, err)
	}
	return nil
}

// send begins the migration, joins it, or ends it; busy tells that it runs.
func (s *session) send(ctx context.Context) (busy bool, err error) {
	m := s.migrating()
	if s.mem.run != nil && s.mem.run.Migration != m.MigrationUID && s.mem.run.Outcome() == nil {
		s.mem.run.Abort()
		return true, nil // its end brings us back
	}
	if s.mem.run == nil || s.mem.run.Migration != m.MigrationUID {
		switch {
		case m.Failed:
			s.mem.run = nil
			return false, nil
		case s.view.Peer == nil:
			return false, nil
		case m.StartTimestamp != nil:
			done, ok := s.r.Migrations.Take()
			if !ok {
				return false, nil // the next virt-handler joins it
			}
			s.mem.run = s.begin(wire.MigrateRequest{}, nil, done)
		case m.AbortRequested:
			return false, s.stays(ctx, &migration.Outcome{Failure: "the migration was aborted before it began", Aborted: true})
		default:
			return s.set(ctx)
		}
	}
	if m.AbortRequested || m.Failed {
		s.mem.run.Abort()
	}
	outcome := s.mem.run.Outcome()
	if outcome == nil || outcome.Failure == "" {
		return true, s.noteProgress(ctx) // the end of the domain brings us back
	}
	if err := s.stays(ctx, outcome); err != nil {
		return false, err
	}
	s.mem.run = nil
	return false, nil
}

// set sets the guest off.
func (s *session) set(ctx context.Context) (busy bool, err error) {
	if _, wanted := s.vmi.Annotations[v1.FuncTestForceLauncherMigrationFailureAnnotation]; wanted {
		return false, s.stays(ctx, &migration.Outcome{Failure: "an annotation of the virtual machine asks for this failure"})
	}
	done, ok := s.r.Migrations.Take()
	if !ok {
		return false, nil // the next virt-handler sets it off
	}
	defer func() {
		if !busy {
			done()
		}
	}()
	request, err := s.migrateRequest(ctx)
	if err != nil {
		return false, s.stays(ctx, &migration.Outcome{Failure: err.Error()})
	}
	route, err := s.route()
	if err != nil {
		return false, s.stays(ctx, &migration.Outcome{Failure: err.Error()})
	}
	dir, err := s.view.Peer.MigrationDir()
	if err != nil {
		return false, s.stays(ctx, &migration.Outcome{Failure: err.Error()})
	}
	tunnel, err := migration.OpenTunnel(s.r.Migrations.Context, dir, layout.UID, route)
	if err != nil {
		return false, s.stays(ctx, &migration.Outcome{Failure: err.Error()})
	}
	begun := false
	err = s.writeMigration(ctx, func(m *v1.VirtualMachineInstanceMigrationState) {
		now := metav1.NewTime(s.r.Now())
		m.StartTimestamp = &now
		begun = true
	}, nil)
	if now := s.migrating(); err != nil || !begun || now == nil || now.StartTimestamp == nil {
		_ = tunnel.Close()
		return false, err
	}
	ctrl.LoggerFrom(ctx).Info("migration begins", "vmi", s.ref.VMI, "migration", route.Migration, "to", route.Address, "disks", request.Disks)
	s.mem.run = s.begin(request, tunnel, done)
	return true, nil
}

// begin runs the migration; done is called when it is over.
func (s *session) begin(request wire.MigrateRequest, path migration.Path, done func()) *migration.Run {
	pod, node := s.ref.Pod, s.r.Migrations
	plan := migration.Plan{Migration: s.migrating().MigrationUID, Request: request, Path: path, Limits: s.limits()}
	return migration.Begin(node.Context, s.view.Peer.Client, plan, migration.Hooks{
		Moved: func() { node.Changed(pod) },
		Ended: func() {
			node.Changed(pod)
			done()
		},
	})
}

func (s *session) route() (migration.Route, error) {
	m := s.migrating()
	for port, stream := range m.TargetDirectMigrationNodePorts {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil && stream == 0 {
			route := migration.Route{Migration: m.MigrationUID, Address: net.JoinHostPort(m.TargetNodeAddress, port)}
			if !plain(m) {
				route.TLS = s.r.Migrations.Client
			}
			return route, nil
		}
	}
	return migration.Route{}, errors.New("the target's virt-handler names no port that this one understands; upgrade both to the same version")
}

// migrateRequest says how the guest travels. The paths of disks and the names of taps are the same in every launcher pod, so its
// own document is the target's.
func (s *session) migrateRequest(ctx context.Context) (wire.MigrateRequest, error) {
	r := wire.MigrateRequest{
		LibvirtSocket: layout.MigrationLibvirtSocket, MemorySocket: layout.MigrationMemorySocket, NBDSocket: layout.MigrationNBDSocket,
	}
	doc, err := s.view.Peer.Client.DomainXML(ctx, wire.DomainXMLRequest{Migratable: true})
	if err != nil {
		return r, fmt.Errorf("read the domain of %s: %w", s.ref.VMI, err)
	}
	if r.Disks, err = travelling(doc); err != nil {
		return r, err
	}
	c := s.migrating().VMIMConfigurationOptions
	if c == nil {
		return r, nil
	}
	if c.MaxDowntimeMs != nil {
		r.MaxDowntimeMillis = *c.MaxDowntimeMs
	}
	if b := c.BandwidthPerMigration; b != nil && b.Value() > 0 {
		r.BandwidthMiBps = uint64(max(b.Value()>>20, 1))
	}
	r.AutoConverge = isTrue(c.AllowAutoConverge)
	r.PostCopy = s.postCopy()
	r.Unsafe = isTrue(c.UnsafeMigrationOverride)
	return r, nil
}

// postCopy tells whether the migration may be switched to post-copy: where that is allowed and launchers are given the device for it.
// The target's pod is made like this one. A guest that cannot be moved that way is paused at the end, if that is allowed.
func (s *session) postCopy() bool {
	c := s.migrating().VMIMConfigurationOptions
	return c != nil && isTrue(c.AllowPostCopy) && s.has(devices.Userfaultfd)
}

func isTrue(b *bool) bool { return b != nil && *b }

// travelling are the disks whose contents are in the pod: the target has none of it. Images that are made from the object, and
// claims that both nodes see, stay.
func travelling(doc string) ([]string, error) {
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(doc); err != nil {
		return nil, fmt.Errorf("read the domain's document: %w", err)
	}
	if dom.Devices == nil {
		return nil, nil
	}
	var disks []string
	for _, d := range dom.Devices.Disks {
		if d.Target == nil || d.Source == nil || d.Source.File == nil || d.ReadOnly != nil {
			continue
		}
		if strings.HasPrefix(d.Source.File.File, layout.DiskDir+"/") {
			disks = append(disks, d.Target.Dev)
		}
	}
	return disks, nil
}

func (s *session) limits() migration.Limits {
	l := migration.Limits{MinBytes: uint64(max(domain.GuestMemory(s.vmi), 0))}
	c := s.migrating().VMIMConfigurationOptions
	if c == nil {
		return l
	}
	if c.ProgressTimeout != nil {
		l.Progress = time.Duration(*c.ProgressTimeout) * time.Second
	}
	if c.CompletionTimeoutPerGiB != nil {
		l.PerGiB = time.Duration(*c.CompletionTimeoutPerGiB) * time.Second
	}
	l.PostCopy = s.postCopy()
	l.Disrupt = isTrue(c.AllowWorkloadDisruption) || c.AllowWorkloadDisruption == nil && isTrue(c.AllowPostCopy)
	return l
}

// stays writes that the migration has failed.
func (s *session) stays(ctx context.Context, o *migration.Outcome) error {
	reason := status.Bounded(o.Failure)
	ctrl.LoggerFrom(ctx).Info("migration failed", "vmi", s.ref.VMI, "reason", reason)
	return s.writeProgress(ctx, s.account(), func(m *v1.VirtualMachineInstanceMigrationState) {
		now := metav1.NewTime(s.r.Now())
		m.Completed, m.Failed, m.FailureReason, m.EndTimestamp = true, true, reason, &now
		switch {
		case o.Aborted:
			m.AbortStatus = v1.MigrationAbortSucceeded
		case m.AbortRequested:
			m.AbortStatus = v1.MigrationAbortFailed
		}
	}, &eventOf{kind: corev1.EventTypeWarning, reason: "Migrated", message: "VirtualMachineInstance migration failed: " + reason})
}

// writeMigration changes the state of the migration that we know, as long as it has not ended.
func (s *session) writeMigration(ctx context.Context, change func(*v1.VirtualMachineInstanceMigrationState), event *eventOf) error {
	return s.writeProgress(ctx, nil, change, event)
}

// under tells that the object's migration is the one given and has not ended.
func under(vmi *v1.VirtualMachineInstance, migration types.UID) bool {
	m := vmi.Status.MigrationState
	return m != nil && m.MigrationUID == migration && !m.Completed && !m.Failed
}

// migrationPatch is patchTo that fails if the migration is another one or has ended meanwhile: what either side or the controller
// writes first is what happened.
func migrationPatch(vmi *v1.VirtualMachineInstance, next *v1.VirtualMachineInstanceStatus, labels map[string]string, p *migrationprogress.Progress) ([]byte, error) {
	first := []operation{
		{"test", "/status/migrationState/migrationUid", vmi.Status.MigrationState.MigrationUID},
		{"test", "/status/migrationState/failed", nil},
		{"test", "/status/migrationState/completed", nil},
	}
	told, err := annotate(vmi, p)
	if err != nil {
		return nil, err
	}
	first = append(first, told...)
	patch, err := patchTo(vmi, next, labels, first...)
	if patch != nil || err != nil || told == nil {
		return patch, err
	}
	return json.Marshal(append([]operation{{"test", "/metadata/uid", vmi.UID}}, first...))
}

// depart ends the launcher that the guest has left, once its new one has said that it has it. The object's phase is no longer
// ours to write, unless the guest got lost on its way.
func (s *session) depart(ctx context.Context) (ctrl.Result, error) {
	m := s.migrating()
	switch {
	case s.vmi.Status.NodeName != s.r.NodeName || moved(m) || s.vmi.IsFinal():
		return ctrl.Result{}, s.quit(ctx)
	case m.Failed:
		// Nobody has it: the target failed after the guest had left.
		o := s.observed(nil)
		o.State.Reason = wire.ReasonFailed
		return ctrl.Result{}, s.write(ctx, o, &eventOf{kind: corev1.EventTypeWarning, reason: "Stopped", message: status.Bounded(
			"The guest was lost in a migration: it had left this node, and " + m.FailureReason)})
	}
	left := s.view.State.Since.Add(farewell).Sub(s.r.Now())
	if left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	if !s.mem.missed {
		s.mem.missed = true
		s.tell(ctx, &eventOf{kind: corev1.EventTypeWarning, reason: "Migrated", message: fmt.Sprintf(
			"The guest has left this node, but node %s has not said within %s that it runs there; look at virt-handler and pod %s on that node.",
			m.TargetNode, farewell, m.TargetPod)})
	}
	return ctrl.Result{}, nil
}
