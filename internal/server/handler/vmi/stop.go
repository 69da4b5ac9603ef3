package vmi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/status"
)

func grace(vmi *v1.VirtualMachineInstance) int64 { return status.GraceSeconds(vmi) }

// stop ends the domain of an object that is being deleted: the guest gets its grace period, counted from the deletion.
func (s *session) stop(ctx context.Context) (ctrl.Result, error) {
	if s.view.Peer == nil {
		return ctrl.Result{}, nil
	}
	if s.view.State.State == wire.StateNone {
		return ctrl.Result{}, s.quit(ctx)
	}
	if s.mem.run != nil {
		s.mem.run.Abort() // it ends here
	}
	now := s.r.Now()
	left := time.Duration(0)
	if d := s.vmi.DeletionTimestamp; d != nil && status.CanShutDown(s.vmi) {
		left = d.Add(time.Duration(grace(s.vmi)) * time.Second).Sub(now)
	}
	if left <= 0 {
		return ctrl.Result{}, s.destroy(ctx)
	}
	if !s.mem.asked {
		err := s.view.Peer.Client.Shutdown(ctx, wire.ShutdownRequest{Agent: s.view.State.AgentConnected})
		if err != nil && !ended(err) {
			return ctrl.Result{}, fmt.Errorf("shut down %s: %w", s.ref.VMI, err)
		}
		s.mem.asked = true // the launcher goes on asking a guest that did not hear it
		ctrl.LoggerFrom(ctx).Info("asked the guest to power off", "vmi", s.ref.VMI, "grace", left.Round(time.Second).String())
	}
	return ctrl.Result{RequeueAfter: left}, nil
}

// destroy ends QEMU; the event that follows brings us to the end.
func (s *session) destroy(ctx context.Context) error {
	state, err := s.view.Peer.Client.Destroy(ctx)
	if ended(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end %s by force: %w", s.ref.VMI, err)
	}
	s.launcher.Learn(state)
	s.view = s.launcher.View()
	if state.State == wire.StateShutoff || state.State == wire.StateCrashed {
		return s.end(ctx)
	}
	return nil
}

// end writes how the domain ended, and only then lets the launcher go.
func (s *session) end(ctx context.Context) error {
	if s.vmi.Status.Phase == "" || s.vmi.IsFinal() {
		return s.release(ctx)
	}
	o := s.observed(nil)
	event := s.endedEvent(o.State)
	if s.leaves(o) {
		if !s.mem.told {
			s.mem.told = true
			s.tell(ctx, event)
		}
		return s.quit(ctx)
	}
	if err := s.write(ctx, o, event); err != nil {
		return err
	}
	return s.release(ctx)
}

// release lets the launcher go, unless the contract's annotation wants the launcher of a guest that failed to be there for a look at
// it: then it stays until the object is deleted.
func (s *session) release(ctx context.Context) error {
	value, annotated := s.vmi.Annotations[v1.KeepLauncherAfterFailureAnnotation]
	keep := annotated && (value == "" || value == "true")
	if keep && s.vmi.DeletionTimestamp == nil && status.Phase(s.vmi, v1.Running, *s.view.State) == v1.Failed {
		return nil
	}
	return s.quit(ctx)
}

// leaves tells that the object was asked to go, its guest has powered off in time, and nobody but virt-controller keeps the object: it
// goes with its launcher, and its last phase is not worth a write that nobody will read. A guest that had to be forced, or whose object
// somebody else still wants, is written down.
func (s *session) leaves(o *status.Observed) bool {
	if s.vmi.DeletionTimestamp == nil || status.Phase(s.vmi, v1.Running, o.State) != v1.Succeeded {
		return false
	}
	return !slices.ContainsFunc(s.vmi.Finalizers, func(f string) bool {
		return f != v1.VirtualMachineInstanceFinalizer && f != v1.DeprecatedVirtualMachineInstanceFinalizer
	})
}

func (s *session) endedEvent(state wire.State) *eventOf {
	if status.Phase(s.vmi, v1.Running, state) == v1.Succeeded {
		return &eventOf{kind: corev1.EventTypeNormal, reason: "Stopped", message: "The VirtualMachineInstance was shut down."}
	}
	message := "The VirtualMachineInstance crashed."
	if state.Reason == wire.ReasonDestroyed {
		message = "The guest was ended by force."
		if d := s.vmi.DeletionTimestamp; d != nil && state.Since.Sub(d.Time) >= time.Duration(grace(s.vmi))*time.Second {
			message = fmt.Sprintf("The guest did not power off within %d seconds and was ended by force.", grace(s.vmi))
		}
	}
	if state.Detail != "" {
		message += " " + state.Detail
	}
	return &eventOf{kind: corev1.EventTypeWarning, reason: "Stopped", message: status.Bounded(message)}
}

func (s *session) quit(ctx context.Context) error {
	if s.view.Peer == nil {
		return nil
	}
	if err := s.view.Peer.Client.Quit(ctx); err != nil && !ended(err) {
		return fmt.Errorf("end the launcher of %s: %w", s.ref.VMI, err)
	}
	return nil
}

// ended tells that a call failed because there is nothing left to call.
func ended(err error) bool { return gone(err) || wire.CodeOf(err) == wire.CodeNotFound }

// gone tells that the launcher itself has ended.
func gone(err error) bool {
	for _, sign := range []error{wire.ErrClosed, unix.ECONNRESET, unix.ECONNREFUSED, unix.EPIPE} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return false
}
