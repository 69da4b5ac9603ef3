package vmi

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/handler/status"
)

// component names us in events.
const component = "virt-handler"

// tries is how often a write is computed again because somebody else changed the same part of the object meanwhile.
const tries = 5

// eventOf is an event to tell after a write.
type eventOf struct{ kind, reason, message string }

// write brings the object's status to what was observed: at most one patch, and none if nothing has changed. The event is
// told only when the patch was made, so that it is told once.
func (s *session) write(ctx context.Context, o *status.Observed, event *eventOf) error {
	return s.patch(ctx, func(vmi *v1.VirtualMachineInstance) ([]byte, error) { return patchFor(vmi, o) }, event)
}

// patch makes the patch that compute gives for the newest object.
func (s *session) patch(ctx context.Context, compute func(*v1.VirtualMachineInstance) ([]byte, error), event *eventOf) error {
	for range tries {
		patch, err := compute(s.vmi)
		if err != nil || patch == nil {
			return err
		}
		written := &v1.VirtualMachineInstance{}
		written.Namespace, written.Name = s.vmi.Namespace, s.vmi.Name
		err = s.r.Writer.Patch(ctx, written, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner(component))
		switch {
		case err == nil:
			s.vmi = written
			s.mem.wrote(written)
			s.tell(ctx, event)
			return nil
		case apierrors.IsNotFound(err):
			return nil
		case !apierrors.IsConflict(err) && !apierrors.IsInvalid(err):
			return fmt.Errorf("write the status of %s: %w", s.ref.VMI, err)
		}
		// Somebody else changed what we are changing: look at the newest and compute again.
		ctrl.LoggerFrom(ctx).V(1).Info("status changed meanwhile", "vmi", s.ref.VMI, "reason", err.Error())
		vmi, err := s.r.fetch(ctx, s.ref)
		if err != nil || vmi == nil {
			return err
		}
		s.vmi = vmi
	}
	return fmt.Errorf("write the status of %s: it keeps changing; trying again", s.ref.VMI)
}

// tell records an event. A user misses it if that fails, but nothing else does.
func (s *session) tell(ctx context.Context, event *eventOf) {
	if event == nil {
		return
	}
	now := metav1.NewTime(s.r.Now())
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: s.vmi.Name + ".", Namespace: s.vmi.Namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: v1.GroupVersion.String(), Kind: v1.VirtualMachineInstanceGroupVersionKind.Kind, Namespace: s.vmi.Namespace,
			Name: s.vmi.Name, UID: s.vmi.UID, ResourceVersion: s.vmi.ResourceVersion,
		},
		Reason: event.reason, Message: event.message, Type: event.kind, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: component, Host: s.r.NodeName}, ReportingController: component,
		ReportingInstance: s.r.NodeName,
	}
	if err := s.r.Writer.Create(ctx, e); err != nil {
		ctrl.LoggerFrom(ctx).Info("could not record an event", "vmi", s.ref.VMI, "event", event.reason, "reason", err.Error())
	}
}
