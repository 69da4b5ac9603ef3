package review

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
)

const gateClaimAdoption = "DataVolumeClaimAdoption"

func (s *Server) validateDataVolume(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	dv, old := &cdiv1.DataVolume{}, &cdiv1.DataVolume{}
	if err := decode(r, dv, old); err != nil {
		return failed(err)
	}
	if r.Operation == admissionv1.Update && !sameVolume(dv.Spec, old.Spec) {
		return denied(cause(metav1.CauseTypeFieldValueDuplicate, field.NewPath("DataVolume").Child("Spec"), "Cannot update DataVolume Spec"))
	}
	if causes := tooLong(dv.Name, validation.DNS1123SubdomainMaxLength); causes != nil {
		return denied(causes)
	}
	if r.Operation == admissionv1.Create {
		namespace := dv.Namespace
		if namespace == "" {
			namespace = r.Namespace
		}
		causes, err := s.targetTaken(ctx, dv, namespace)
		if err != nil {
			return failed(err)
		}
		if causes != nil {
			return denied(causes)
		}
	}
	return denied(volumeSpec(field.NewPath("spec"), &dv.Spec))
}

// sameVolume tells whether a specification is what it was. Checkpoints of a migration that is under way may come.
func sameVolume(now, before cdiv1.DataVolumeSpec) bool {
	if src := now.Source; src != nil && len(now.Checkpoints) > 0 && (src.VDDK != nil || src.Imageio != nil) {
		now.Checkpoints, now.FinalCheckpoint = nil, false
		before.Checkpoints, before.FinalCheckpoint = nil, false
	}
	return equality.Semantic.DeepEqual(now, before)
}

// targetTaken refuses a DataVolume whose claim is somebody else's.
func (s *Server) targetTaken(ctx context.Context, dv *cdiv1.DataVolume, namespace string) ([]metav1.StatusCause, error) {
	if dv.Name == "" {
		return nil, nil // the API server makes a new name
	}
	claim := &corev1.PersistentVolumeClaim{}
	err := s.get(ctx, namespace, dv.Name, claim)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if owner := metav1.GetControllerOf(claim); owner != nil && owner.Kind == "DataVolume" {
		return nil, nil
	}
	allowed, err := s.mayAdopt(ctx, claim, dv)
	if err != nil || allowed {
		return nil, err
	}
	return cause(metav1.CauseTypeFieldValueDuplicate, field.NewPath("DataVolume").Child("Name"),
		"Destination PVC %s/%s already exists", namespace, dv.Name), nil
}

// mayAdopt tells whether a DataVolume may take a claim that was there before it.
func (s *Server) mayAdopt(ctx context.Context, claim *corev1.PersistentVolumeClaim, dv *cdiv1.DataVolume) (bool, error) {
	if claim.Annotations[names.AnnPopulatedFor] == dv.Name {
		return true, nil
	}
	if wish, ok := dv.Annotations[names.AnnAllowClaimAdoption]; ok {
		allowed, _ := strconv.ParseBool(wish)
		return allowed, nil
	}
	config := &cdiv1.CDIConfig{}
	if err := s.get(ctx, "", names.CDIConfig, config); err != nil {
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("read the configuration: %w", err)
	}
	return slices.Contains(config.Spec.FeatureGates, gateClaimAdoption), nil
}

// target is what a DataVolume says about its claim, in either of the two ways.
type target struct {
	// word is what the contract's texts call it.
	word          string
	class         *string
	resources     corev1.VolumeResourceRequirements
	access        []corev1.PersistentVolumeAccessMode
	dataSource    *corev1.TypedLocalObjectReference
	dataSourceRef *corev1.TypedObjectReference
}

func targetOf(spec *cdiv1.DataVolumeSpec) target {
	if p := spec.PVC; p != nil {
		return target{"PVC", p.StorageClassName, p.Resources, p.AccessModes, p.DataSource, p.DataSourceRef}
	}
	s := spec.Storage
	return target{"Storage", s.StorageClassName, s.Resources, s.AccessModes, s.DataSource, s.DataSourceRef}
}

func volumeSpec(at *field.Path, spec *cdiv1.DataVolumeSpec) []metav1.StatusCause {
	switch {
	case spec.PVC == nil && spec.Storage == nil:
		return invalid(at.Child("PVC"), "Missing Data volume PVC")
	case spec.PVC != nil && spec.Storage != nil:
		return invalid(at.Child("PVC", "Storage"), "Duplicate storage definition, both target storage and target pvc defined")
	}
	t := targetOf(spec)
	for _, check := range []func() []metav1.StatusCause{
		func() []metav1.StatusCause { return sizeOf(at, spec, t) },
		func() []metav1.StatusCause {
			if t.class == nil {
				return nil
			}
			return tooLong(*t.class, validation.DNS1123SubdomainMaxLength)
		},
		func() []metav1.StatusCause { return accessOf(at, t) },
	} {
		if causes := check(); causes != nil {
			return causes
		}
	}
	if t.dataSource != nil || t.dataSourceRef != nil {
		return externally(at, spec, t)
	}
	if (spec.Source == nil) == (spec.SourceRef == nil) {
		return invalid(at.Child("source"), "Data volume should have either Source or SourceRef, or be externally populated")
	}
	if spec.SourceRef != nil {
		return reference(at.Child("sourceRef"), spec.SourceRef)
	}
	return volumeSource(at, spec)
}

const mebibyte = 1 << 20

// sizeOf wants a size, unless the source has one.
func sizeOf(at *field.Path, spec *cdiv1.DataVolumeSpec, t target) []metav1.StatusCause {
	where := at.Child(t.word, "resources", "requests", "size")
	size, given := t.resources.Requests[corev1.ResourceStorage]
	clones := spec.SourceRef != nil || (spec.Source != nil && (spec.Source.PVC != nil || spec.Source.Snapshot != nil))
	switch {
	case !given && spec.Storage != nil && clones:
		return nil
	case !given:
		return invalid(where, "%s size is missing", t.word)
	case size.Sign() <= 0:
		return invalid(where, "%s size can't be equal or less than zero", t.word)
	case size.Value() < mebibyte:
		return invalid(where, "%s size should be at least 1MiB", t.word)
	}
	return nil
}

func accessOf(at *field.Path, t target) []metav1.StatusCause {
	where := at.Child("PVC", "accessModes")
	if t.word == "PVC" {
		switch {
		case len(t.access) == 0:
			return invalid(where, "Required value: at least 1 access mode is required")
		case len(t.access) > 1:
			return invalid(where, "PVC multiple accessModes")
		}
	}
	known := []corev1.PersistentVolumeAccessMode{
		corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod,
	}
	for _, mode := range t.access {
		if !slices.Contains(known, mode) {
			return invalid(where, `Unsupported value: "%s": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"`, mode)
		}
	}
	return nil
}

func reference(at *field.Path, ref *cdiv1.DataVolumeSourceRef) []metav1.StatusCause {
	switch {
	case ref.Kind == "":
		return invalid(at.Child("Kind"), "Missing sourceRef kind")
	case ref.Kind != cdiv1.DataVolumeDataSource:
		return invalid(at.Child("Kind"), "Unsupported sourceRef kind %s, currently only %s is supported", ref.Kind, cdiv1.DataVolumeDataSource)
	case ref.Name == "":
		return invalid(at.Child("Name"), "Missing sourceRef name")
	}
	return nil
}

// externally judges a volume that somebody else's populator fills.
func externally(at *field.Path, spec *cdiv1.DataVolumeSpec, t target) []metav1.StatusCause {
	var out []metav1.StatusCause
	if spec.Source != nil || spec.SourceRef != nil {
		out = append(out, invalid(at.Child("source"), "External population is incompatible with Source and SourceRef")...)
	}
	if s, ref := t.dataSource, t.dataSourceRef; s != nil && ref != nil {
		if s.Kind != ref.Kind || s.Name != ref.Name || !equality.Semantic.DeepEqual(s.APIGroup, ref.APIGroup) {
			out = append(out, invalid(nil, "DataSourceRef and DataSource must match")...)
		}
	}
	if s := t.dataSource; s != nil {
		out = append(out, referent(at.Child("dataSource"), "DataSource", s.APIGroup, s.Kind, s.Name)...)
	}
	if ref := t.dataSourceRef; ref != nil {
		where := at.Child("dataSourceRef")
		if ref.Namespace != nil && *ref.Namespace != "" {
			out = append(out, invalid(where.Child("namespace"), "Invalid value: DataSourceRef namespace not supported")...)
		}
		out = append(out, referent(where, "DataSourceRef", ref.APIGroup, ref.Kind, ref.Name)...)
	}
	return out
}

func referent(at *field.Path, word string, group *string, kind, name string) []metav1.StatusCause {
	var out []metav1.StatusCause
	if name == "" {
		out = append(out, invalid(at.Child("name"), "Required value: %s name", word)...)
	}
	if kind == "" {
		out = append(out, invalid(at.Child("kind"), "Required value: %s kind", word)...)
	}
	if (group == nil || *group == "") && kind != "PersistentVolumeClaim" {
		out = append(out, invalid(at.Child("apiGroup"), "Required value: %s apiGroup when kind is not 'PersistentVolumeClaim'", word)...)
	}
	return out
}
