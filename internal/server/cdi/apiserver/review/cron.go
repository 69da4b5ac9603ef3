package review

import (
	"context"

	"github.com/robfig/cron/v3"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

func (s *Server) validateCron(_ context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	wanted, old := &cdiv1.DataImportCron{}, &cdiv1.DataImportCron{}
	if err := decode(r, wanted, old); err != nil {
		return failed(err)
	}
	if causes := tooLong(wanted.Name, validation.DNS1035LabelMaxLength); causes != nil {
		return denied(causes)
	}
	if r.Operation == admissionv1.Update {
		if !equality.Semantic.DeepEqual(wanted.Spec, old.Spec) {
			return denied(cause(metav1.CauseTypeFieldValueDuplicate, field.NewPath("DataImportCron").Child("Spec"), "Cannot update DataImportCron Spec"))
		}
		return nil
	}
	return denied(cronSpec(field.NewPath("spec"), &wanted.Spec))
}

func cronSpec(at *field.Path, spec *cdiv1.DataImportCronSpec) []metav1.StatusCause {
	volume := &spec.Template.Spec
	if s := volume.Source; s == nil || (s.Registry == nil && s.PVC == nil) {
		return invalid(at.Child("Template"), "Missing source")
	}
	if volume.SourceRef != nil || volume.ContentType != "" || len(volume.Checkpoints) > 0 || volume.FinalCheckpoint {
		return invalid(at.Child("Template"), "Unsettable fields: SourceRef, ContentType, Checkpoints, FinalCheckpoint")
	}
	if causes := volumeSpec(field.NewPath("Template"), volume); causes != nil {
		return causes
	}
	if spec.Schedule != "" {
		if _, err := cron.ParseStandard(spec.Schedule); err != nil {
			return invalid(at.Child("Schedule"), "Illegal cron schedule")
		}
	}
	if spec.ImportsToKeep != nil && *spec.ImportsToKeep < 0 {
		return invalid(at.Child("ImportsToKeep"), "Illegal ImportsToKeep value")
	}
	if g := spec.GarbageCollect; g != nil && *g != cdiv1.DataImportCronGarbageCollectNever && *g != cdiv1.DataImportCronGarbageCollectOutdated {
		return invalid(at.Child("GarbageCollect"), "Illegal GarbageCollect value")
	}
	if spec.ManagedDataSource == "" {
		return invalid(at.Child("ManagedDataSource"), "Illegal ManagedDataSource value")
	}
	return tooLong(spec.ManagedDataSource, validation.DNS1035LabelMaxLength)
}
