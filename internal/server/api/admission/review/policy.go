package review

import (
	"context"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	migrationsv1alpha1 "kubevirt.io/api/migrations/v1alpha1"
)

// validateMigrationPolicy refuses what would make every migration under the policy fail at once, or match nothing.
func validateMigrationPolicy(_ context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	policy := &migrationsv1alpha1.MigrationPolicy{}
	if refused := decode(r, policy, nil); refused != nil {
		return refused
	}
	var causes []metav1.StatusCause
	spec := &policy.Spec
	if spec.Selectors == nil {
		causes = append(causes, cause("spec.selectors", "spec.selectors must be given; empty selectors match every virtual machine")...)
	}
	if t := spec.CompletionTimeoutPerGiB; t != nil && *t < 0 {
		causes = append(causes, cause("spec.completionTimeoutPerGiB", "must not be negative")...)
	}
	if b := spec.BandwidthPerMigration; b != nil && b.Sign() < 0 {
		causes = append(causes, cause("spec.bandwidthPerMigration", "must not be negative")...)
	}
	if len(causes) > 0 {
		return denied(causes)
	}
	return nil
}
