package review

import (
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
)

func cause(field, message string) []metav1.StatusCause {
	return []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueInvalid, Field: field, Message: message}}
}

func (s *Server) validateMigration(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	m := &v1.VirtualMachineInstanceMigration{}
	if refused := decode(r, m, nil); refused != nil {
		return refused
	}
	spec := &m.Spec
	switch {
	case spec.VMIName == "":
		return denied(cause("spec.vmiName", "spec.vmiName must name the VMI to migrate"))
	case spec.Priority != nil && s.account(r) != accountController:
		return denied(cause("spec.priority", "spec.priority can only be set by virt-controller"))
	case spec.SendTo != nil && spec.Receive != nil:
		return denied(cause("spec", "spec.sendTo and spec.receive are mutually exclusive"))
	case (spec.SendTo != nil || spec.Receive != nil) && !s.Config.Get().Gate(clusterconfig.GateDecentralizedLiveMigration):
		return denied(cause("spec", "DecentralizedLiveMigration feature gate is not enabled in kubevirt-config"))
	}
	if err := s.movable(ctx, m, r.Namespace); err != nil {
		return failed(err)
	}
	return nil
}

func (s *Server) movable(ctx context.Context, m *v1.VirtualMachineInstanceMigration, namespace string) error {
	vmi := &v1.VirtualMachineInstance{}
	if err := s.get(ctx, namespace, m.Spec.VMIName, vmi); err != nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("spec.vmiName: the VMI %q does not exist in namespace %q", m.Spec.VMIName, namespace)
		}
		return fmt.Errorf("get the VMI to migrate: %w", err)
	}
	if vmi.IsFinal() {
		return fmt.Errorf("Cannot migrate VMI in finalized state.") //nolint:revive,staticcheck,misspell // contract
	}
	// A VMI that waits to be received from another cluster is not running here yet.
	if m.Spec.Receive == nil {
		for _, c := range vmi.Status.Conditions {
			if c.Type == v1.VirtualMachineInstanceIsMigratable && c.Status == corev1.ConditionFalse {
				//nolint:revive,staticcheck // contract
				return fmt.Errorf("Cannot migrate VMI, Reason: %s, Message: %s", c.Reason, c.Message)
			}
		}
	}
	list := &v1.VirtualMachineInstanceMigrationList{}
	err := s.Client.List(ctx, list, client.InNamespace(namespace), client.MatchingLabels{v1.MigrationSelectorLabel: m.Spec.VMIName})
	if err != nil {
		return fmt.Errorf("look for other migrations: %w", err)
	}
	for i := range list.Items {
		other := &list.Items[i]
		if other.UID != m.UID && !other.IsFinal() && other.Spec.VMIName == m.Spec.VMIName {
			return fmt.Errorf("in-flight migration detected. Active migration job (%s) is currently already in progress for VMI %s.", //nolint:revive,staticcheck // contract
				other.UID, m.Spec.VMIName)
		}
	}
	return nil
}

func (s *Server) validateMigrationUpdate(_ context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	m, old := &v1.VirtualMachineInstanceMigration{}, &v1.VirtualMachineInstanceMigration{}
	if refused := decode(r, m, old); refused != nil {
		return refused
	}
	if !equality.Semantic.DeepEqual(m.Spec, old.Spec) {
		return denied(cause("spec", "update of Migration object's spec is restricted"))
	}
	was, is := old.Labels[v1.MigrationSelectorLabel], m.Labels[v1.MigrationSelectorLabel]
	if !old.IsFinal() && was != is {
		return denied(cause("metadata.labels", "selector label can't be modified or deleted for an in-flight migration"))
	}
	return nil
}
