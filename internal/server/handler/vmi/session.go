package vmi

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/network"
	"virtctl/internal/server/handler/devices"
	"virtctl/internal/server/handler/launchers"
	"virtctl/internal/server/handler/status"
)

// session is one reconciliation.
type session struct {
	r        *Reconciler
	ref      launchers.Ref
	pod      *corev1.Pod
	vmi      *v1.VirtualMachineInstance
	launcher *launchers.Launcher
	view     launchers.View
	mem      *remembered
}

func (s *session) run(ctx context.Context) (ctrl.Result, error) {
	switch state := s.view.State.State; {
	case state == wire.StateNone && s.pod.DeletionTimestamp != nil:
		return ctrl.Result{}, s.leaveEmpty(ctx)
	case s.arriving():
		return ctrl.Result{}, s.arrive(ctx)
	case s.departed():
		return s.depart(ctx)
	case s.doubled():
		return ctrl.Result{}, s.kill(ctx)
	case s.elsewhere():
		return ctrl.Result{}, nil
	case state == wire.StateShutoff || state == wire.StateCrashed:
		return ctrl.Result{}, s.end(ctx)
	case s.vmi.DeletionTimestamp != nil || s.vmi.IsFinal():
		return s.stop(ctx)
	case state == wire.StateNone:
		return s.start(ctx)
	case s.departing():
		if busy, err := s.send(ctx); busy || err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{RequeueAfter: s.agentDue()}, s.report(ctx)
}

// leaveEmpty ends a launcher whose pod is being deleted before a guest was in it. kubelet has told it, but the kernel drops a signal for a
// container's first process until that has a handler, and a launcher that is still being loaded has none: it would live on until kubelet
// kills it at the end of the guest's grace period.
func (s *session) leaveEmpty(ctx context.Context) error {
	if s.r.Migrations != nil {
		s.r.Migrations.Receiver.Forget(s.ref.Pod)
	}
	return s.quit(ctx)
}

// agentReturns is how long the agent of a guest that has come from another node may take to be heard again.
const agentReturns = 10 * time.Second

// agentDue is how long the agent of a guest that has come from another node may still take.
func (s *session) agentDue() time.Duration {
	if s.view.Agent || s.mem.arrived.IsZero() {
		return 0
	}
	return max(agentReturns-s.r.Now().Sub(s.mem.arrived), 0)
}

// elsewhere tells that the domain belongs to another node's handler: a migration has moved it away, or has yet to bring it.
func (s *session) elsewhere() bool {
	if s.view.State.Incoming || s.view.State.Reason == wire.ReasonMigrated && s.view.State.State == wire.StateShutoff {
		return true
	}
	return s.vmi.Status.NodeName != "" && s.vmi.Status.NodeName != s.r.NodeName
}

// start starts the domain. What cannot work is said once, in the status; what may work later is tried again.
func (s *session) start(ctx context.Context) (ctrl.Result, error) {
	if s.view.Peer == nil {
		return ctrl.Result{}, nil // its connection brings us back
	}
	if s.vmi.Status.Phase == v1.Running {
		// The domain is gone without a word: whatever ended it, starting the guest a second time is not ours to decide.
		return ctrl.Result{}, nil
	}
	if s.mem.refusedFor != nil && s.mem.refused == s.vmi.Generation {
		return ctrl.Result{}, s.write(ctx, s.observed(s.mem.refusedFor), nil)
	}
	began := s.r.Now()
	err := s.startDomain(ctx)
	if err == nil {
		ctrl.LoggerFrom(ctx).Info("started", "vmi", s.ref.VMI, "took", s.r.Now().Sub(began).Round(time.Millisecond).String())
		return ctrl.Result{}, s.report(ctx)
	}
	if gone(err) {
		return ctrl.Result{}, nil // the launcher has ended; its pod's end is virt-controller's to judge
	}
	if writeErr := s.write(ctx, s.observed(err), s.failed(err)); writeErr != nil {
		return ctrl.Result{}, writeErr
	}
	if permanent(err) {
		s.mem.refused, s.mem.refusedFor = s.vmi.Generation, err
		ctrl.LoggerFrom(ctx).Info("cannot start", "vmi", s.ref.VMI, "reason", err.Error())
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, fmt.Errorf("start %s: %w", s.ref.VMI, err)
}

// permanent tells that trying again does not help until the object changes.
func permanent(err error) bool {
	var field *domain.FieldError
	var iface *network.InterfaceError
	return errors.As(err, &field) || errors.As(err, &iface) || wire.CodeOf(err) == wire.CodeInvalid
}

// failed is the event for a failure, told once for each message.
func (s *session) failed(err error) *eventOf {
	message := status.Bounded(err.Error())
	for _, c := range s.vmi.Status.Conditions {
		if c.Type == v1.VirtualMachineInstanceSynchronized && c.Message == message {
			return nil
		}
	}
	return &eventOf{kind: corev1.EventTypeWarning, reason: status.EventSyncFailed, message: message}
}

// report writes what the running domain does.
func (s *session) report(ctx context.Context) error {
	s.view = s.launcher.View()
	if err := s.learn(ctx); err != nil {
		return err
	}
	var event *eventOf
	if s.vmi.Status.Phase != v1.Running {
		event = &eventOf{kind: corev1.EventTypeNormal, reason: "Started", message: "VirtualMachineInstance started."}
	}
	if event == nil {
		event = s.credentialsEvent()
	}
	failure := errors.Join(s.grow(ctx), s.growDisks(ctx))
	plugs, notPlugged := s.plug(ctx)
	failure = errors.Join(failure, notPlugged)
	if err := s.learn(ctx); err != nil {
		return err
	}
	o := s.observed(nil)
	o.Plugs = plugs
	return errors.Join(s.write(ctx, o, event), failure)
}

// credentialsEvent tells what became of access credentials when the object does not say it yet. That the agent is still to come is
// no event.
func (s *session) credentialsEvent() *eventOf {
	c := s.view.State.Credentials
	if c == nil || c.Reason == wire.CredentialsNoAgent {
		return nil
	}
	for _, old := range s.vmi.Status.Conditions {
		if old.Type == v1.VirtualMachineInstanceAccessCredentialsSynchronized && old.Message == status.Bounded(c.Message) &&
			(old.Status == corev1.ConditionTrue) == c.Synchronized {
			return nil
		}
	}
	if c.Synchronized {
		return &eventOf{kind: corev1.EventTypeNormal, reason: v1.AccessCredentialsSyncSuccess.String(), message: "Access credentials sync successful."}
	}
	return &eventOf{
		kind: corev1.EventTypeWarning, reason: v1.AccessCredentialsSyncFailed.String(),
		message: status.Bounded("Access credentials sync failed: " + c.Message),
	}
}

// learn finds out what a status tells of a running domain, once for each connection to a domain.
func (s *session) learn(ctx context.Context) error {
	if s.view.Peer == nil {
		return nil
	}
	if s.mem.domain == nil {
		doc, err := s.view.Peer.Client.DomainXML(ctx, wire.DomainXMLRequest{})
		if err != nil {
			return fmt.Errorf("read the domain of %s: %w", s.ref.VMI, err)
		}
		if s.mem.domain, err = status.ParseDomain(doc); err != nil {
			return err
		}
	}
	if s.mem.plan == nil {
		ns, err := s.view.Peer.Namespace()
		if err != nil {
			return err
		}
		defer ns.Close()
		plan, err := s.planNetwork(ns)
		if err != nil {
			return err
		}
		s.mem.plan = &plan
	}
	return nil
}

func (s *session) observed(failure error) *status.Observed {
	o := &status.Observed{
		Now: s.r.Now(), Node: s.r.NodeName, PodUID: s.ref.PodUID, State: *s.view.State, Domain: s.mem.domain,
		Agent: s.view.Agent, Guest: s.view.Guest, AgentPending: !s.view.Agent && (s.view.State.AgentConnected || s.agentDue() > 0),
		HostModel: s.hostModel(), Failure: failure, Launcher: status.LauncherOf(s.pod),
	}
	if s.mem.plan != nil {
		o.Plan = *s.mem.plan
	}
	return o
}

// hostModel tells whether the guest can get its host-model CPU on another node. A guest without hardware virtualization has a CPU
// that does not depend on its node.
func (s *session) hostModel() bool { return s.r.Node.HostModel() || !s.has(devices.KVM) }
