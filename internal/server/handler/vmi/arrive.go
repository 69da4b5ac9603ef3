package vmi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/launchers"
	"virtctl/internal/server/handler/migration"
	"virtctl/internal/server/handler/status"
)

// arriving tells that this pod is the target of the object's migration.
func (s *session) arriving() bool {
	m := s.migrating()
	return m != nil && m.TargetPod == s.pod.Name && m.TargetNode == s.r.NodeName && s.vmi.Status.NodeName != s.r.NodeName &&
		string(m.MigrationUID) == s.pod.Labels[v1.MigrationJobLabel]
}

// arrive makes the pod ready for the guest, and takes over when it has come.
func (s *session) arrive(ctx context.Context) error {
	m := s.migrating()
	switch {
	case m.Failed || s.vmi.IsFinal():
		s.r.Migrations.Receiver.Forget(s.ref.Pod)
		if s.view.State.State == wire.StateRunning {
			// The source has said that the guest goes on there; two of it must not run.
			if err := s.kill(ctx); err != nil {
				return err
			}
		}
		return s.quit(ctx)
	case s.arrived():
		return s.takeOver(ctx)
	case over(s.view.State.State) || s.view.Peer == nil:
		return nil // the source will say why
	case s.r.Migrations.Receiver.Expects(m.MigrationUID) && m.TargetNodeAddress != "":
		return nil
	}
	err := s.expect(ctx)
	if err == nil || gone(err) || errors.Is(err, errNotHeld) {
		return nil
	}
	if permanent(err) {
		return s.stays(ctx, &migration.Outcome{Failure: fmt.Sprintf("node %s cannot take the guest: %v", s.r.NodeName, err)})
	}
	return fmt.Errorf("prepare the migration of %s: %w", s.ref.VMI, err)
}

func over(state wire.DomainState) bool {
	return state == wire.StateShutoff || state == wire.StateCrashed
}

// arrived tells that the guest runs here, or has run here.
func (s *session) arrived() bool {
	state := s.view.State
	switch state.State {
	case wire.StateRunning:
		return !state.Incoming && state.Reason != wire.ReasonPostCopy
	case wire.StatePaused:
		// A guest that its user had paused comes paused.
		return !state.Incoming || state.Reason == wire.ReasonUser
	case wire.StateNone:
		return false
	}
	return !state.Incoming
}

// expect makes disks and network ready and tells the source where to come.
func (s *session) expect(ctx context.Context) error {
	if _, wanted := s.vmi.Annotations[v1.FuncTestBlockLauncherPrepareMigrationTargetAnnotation]; wanted {
		return nil // an annotation of the contract asks for a target that never gets ready
	}
	m := s.migrating()
	if s.view.State.State == wire.StateNone {
		if err := s.bringAll(ctx); err != nil {
			return err
		}
		g, err := s.prepare(ctx, true)
		defer g.close()
		if err != nil {
			return err
		}
		if err := s.launch(ctx, g, wire.StartRequest{Incoming: true}); err != nil {
			return err
		}
	}
	node := s.r.Migrations
	done, ok := node.Take()
	if !ok {
		return nil // the next virt-handler begins here again
	}
	node.Receiver.Expect(m.MigrationUID, migration.Guest{Pod: s.ref.Pod, Open: opener(s.launcher), Plain: plain(m), Done: done})
	ctrl.LoggerFrom(ctx).Info("ready for a guest", "vmi", s.ref.VMI, "migration", m.MigrationUID)
	return s.writeMigration(ctx, func(m *v1.VirtualMachineInstanceMigrationState) {
		m.TargetNodeAddress = node.Address
		m.TargetDirectMigrationNodePorts = map[string]int{strconv.Itoa(node.Port): 0}
	}, nil)
}

// plain says that the cluster has switched encryption off for migrations.
func plain(m *v1.VirtualMachineInstanceMigrationState) bool {
	return m.VMIMConfigurationOptions != nil && isTrue(m.VMIMConfigurationOptions.DisableTLS)
}

// opener connects to the launcher's end of a stream.
func opener(l *launchers.Launcher) migration.OpenFunc {
	return func(ctx context.Context, stream migration.Stream) (*os.File, error) {
		peer := l.View().Peer
		if peer == nil {
			return nil, fmt.Errorf("the launcher is not connected: %w", net.ErrClosed)
		}
		if stream == migration.Libvirt {
			return peer.Client.Libvirt(ctx)
		}
		return peer.Client.MigrationPort(ctx, wire.MigrationPortRequest{Kind: string(stream)})
	}
}

// takeOver makes the guest this node's, in one write.
func (s *session) takeOver(ctx context.Context) error {
	s.view = s.launcher.View()
	if !over(s.view.State.State) {
		if err := s.learn(ctx); err != nil {
			return err
		}
	}
	if s.mem.arrived.IsZero() {
		s.mem.arrived = s.r.Now()
	}
	o := s.observed(nil)
	uid, account := s.migrating().MigrationUID, s.arrival(ctx)
	compute := func(vmi *v1.VirtualMachineInstance) ([]byte, error) {
		if !under(vmi, uid) || vmi.IsFinal() {
			return nil, nil
		}
		next := vmi.Status.DeepCopy()
		status.Apply(vmi, next, o)
		// It has left the node that an eviction asked it to leave, and with it its old pod.
		next.EvacuationNodeName = ""
		next.Conditions = slices.DeleteFunc(next.Conditions, func(c v1.VirtualMachineInstanceCondition) bool {
			return c.Type == v1.VirtualMachineInstanceEvictionRequested
		})
		next.ActivePods = map[types.UID]string{s.ref.PodUID: s.r.NodeName}
		now := metav1.NewTime(s.r.Now())
		m := next.MigrationState
		m.TargetNodeDomainDetected, m.TargetNodeDomainReadyTimestamp = true, &now
		m.Completed, m.EndTimestamp = true, &now
		if m.StartTimestamp == nil {
			m.StartTimestamp = &now
		}
		if m.AbortRequested {
			m.AbortStatus = v1.MigrationAbortFailed
		}
		labels := o.Labels()
		labels[v1.MigrationTargetNodeNameLabel] = ""
		return migrationPatch(vmi, next, labels, account)
	}
	err := s.patch(ctx, compute, &eventOf{
		kind: corev1.EventTypeNormal, reason: "Migrated", message: fmt.Sprintf("The VirtualMachineInstance migrated to node %s.", s.r.NodeName),
	})
	if err != nil {
		return err
	}
	s.r.Migrations.Receiver.Forget(s.ref.Pod)
	ctrl.LoggerFrom(ctx).Info("the guest has come", "vmi", s.ref.VMI, "migration", uid)
	if m := s.migrating(); m != nil && m.Failed {
		return s.arrive(ctx) // the source was faster
	}
	return nil
}
