package review

import (
	"context"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

func (s *Server) validatePopulator(_ context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	var causes []metav1.StatusCause
	var err error
	switch r.Resource.Resource {
	case "volumeimportsources":
		causes, err = importPopulator(r)
	case "volumeuploadsources":
		causes, err = uploadPopulator(r)
	default:
		err = fmt.Errorf("unexpected resource: %s", r.Resource.Resource)
	}
	if err != nil {
		return failed(err)
	}
	return denied(causes)
}

func fixed(kind string) []metav1.StatusCause {
	return cause(metav1.CauseTypeFieldValueDuplicate, field.NewPath(kind).Child("Spec"), "Cannot update %s Spec", kind)
}

func uploadPopulator(r *admissionv1.AdmissionRequest) ([]metav1.StatusCause, error) {
	source, old := &cdiv1.VolumeUploadSource{}, &cdiv1.VolumeUploadSource{}
	if err := decode(r, source, old); err != nil {
		return nil, err
	}
	if r.Operation == admissionv1.Update && !equality.Semantic.DeepEqual(source.Spec, old.Spec) {
		return fixed("VolumeUploadSource"), nil
	}
	if causes := tooLong(source.Name, validation.DNS1035LabelMaxLength); causes != nil {
		return causes, nil
	}
	return contentType(field.NewPath("spec"), source.Spec.ContentType), nil
}

func importPopulator(r *admissionv1.AdmissionRequest) ([]metav1.StatusCause, error) {
	source, old := &cdiv1.VolumeImportSource{}, &cdiv1.VolumeImportSource{}
	if err := decode(r, source, old); err != nil {
		return nil, err
	}
	if r.Operation == admissionv1.Update && !sameImport(source.Spec, old.Spec) {
		return fixed("VolumeImportSource"), nil
	}
	if causes := tooLong(source.Name, validation.DNS1035LabelMaxLength); causes != nil {
		return causes, nil
	}
	at, spec := field.NewPath("spec"), &source.Spec
	if causes := contentType(at, spec.ContentType); causes != nil {
		return causes, nil
	}
	sources := spec.Source
	if sources == nil {
		sources = &cdiv1.ImportSourceType{}
	}
	if causes := one(at, "VolumeImport", count(sources)); causes != nil {
		return causes, nil
	}
	if staged(spec) && (spec.TargetClaim == nil || *spec.TargetClaim == "") {
		return invalid(at.Child("targetClaim"), "Unable to do multi-stage import without specifying a target claim"), nil
	}
	return importSource(at, sources, spec.ContentType), nil
}

// staged imports bring a disk over while it is still in use elsewhere.
func staged(spec *cdiv1.VolumeImportSourceSpec) bool {
	return spec.Source != nil && len(spec.Checkpoints) > 0 && (spec.Source.VDDK != nil || spec.Source.Imageio != nil)
}

// sameImport tells whether a specification is what it was. Checkpoints of a migration that is under way may come.
func sameImport(now, before cdiv1.VolumeImportSourceSpec) bool {
	if staged(&now) {
		now.Checkpoints, now.FinalCheckpoint = nil, nil
		before.Checkpoints, before.FinalCheckpoint = nil, nil
	}
	return equality.Semantic.DeepEqual(now, before)
}
