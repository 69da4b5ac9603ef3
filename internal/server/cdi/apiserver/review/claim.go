package review

import (
	"context"
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/storageprofile"
)

// without selects what does not have a label.
func without(label string) labels.Selector {
	r, err := labels.NewRequirement(label, selection.DoesNotExist, nil)
	if err != nil {
		return labels.Nothing()
	}
	return labels.NewSelector().Add(*r)
}

// mutateClaim fills what a claim leaves open from the StorageProfile of its class, when its label asks for that.
func (s *Server) mutateClaim(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	claim := &corev1.PersistentVolumeClaim{}
	if err := json.Unmarshal(r.Object.Raw, claim); err != nil {
		return failed(fmt.Errorf("decode the claim: %w", err))
	}
	if r.Operation != admissionv1.Create || claim.Labels[names.LabelApplyStorageProfile] != "true" {
		return nil
	}
	spec := claim.Spec.DeepCopy()
	storage, err := s.storage(ctx, spec)
	if err != nil {
		return failed(err)
	}
	content := cdiv1.DataVolumeContentType(claim.Annotations[names.AnnContentType])
	if err := storageprofile.Modes(spec, content, storage); err != nil {
		return failed(err)
	}
	if err := storageprofile.Size(spec, storage); err != nil {
		return failed(err)
	}
	if equality.Semantic.DeepEqual(spec, &claim.Spec) {
		return nil
	}
	return patched(operation{"replace", "/spec", spec})
}

// storage is what is known of the class a claim will have.
func (s *Server) storage(ctx context.Context, spec *corev1.PersistentVolumeClaimSpec) (storageprofile.Storage, error) {
	out := storageprofile.Storage{Overhead: "0.06"}
	if spec.StorageClassName != nil {
		out.Class = *spec.StorageClassName
	} else {
		classes := &storagev1.StorageClassList{}
		if err := s.Client.List(ctx, classes); err != nil {
			return out, fmt.Errorf("look for the default storage class: %w", err)
		}
		out.Class = defaultClass(classes.Items)
	}
	config := &cdiv1.CDIConfig{}
	if err := s.get(ctx, "", names.CDIConfig, config); err != nil && !apierrors.IsNotFound(err) {
		return out, fmt.Errorf("read the configuration: %w", err)
	}
	if o := config.Status.FilesystemOverhead; o != nil {
		if o.Global != "" {
			out.Overhead = string(o.Global)
		}
		if own, ok := o.StorageClass[out.Class]; ok {
			out.Overhead = string(own)
		}
	}
	if out.Class == "" {
		return out, nil
	}
	profile := &cdiv1.StorageProfile{}
	if err := s.get(ctx, "", out.Class, profile); err != nil {
		return out, fmt.Errorf("read StorageProfile %s: %w", out.Class, err)
	}
	out.Sets, out.Minimum = profile.Status.ClaimPropertySets, profile.Annotations[names.AnnMinimumSupportedPVCSize]
	return out, nil
}

// defaultClass prefers the default for virtual machines to the default for everything, and the newest of several.
func defaultClass(classes []storagev1.StorageClass) string {
	for _, mark := range []string{names.AnnDefaultVirtClass, names.AnnDefaultClass} {
		var newest *storagev1.StorageClass
		for i := range classes {
			c := &classes[i]
			if c.Annotations[mark] == "true" && (newest == nil || newest.CreationTimestamp.Before(&c.CreationTimestamp)) {
				newest = c
			}
		}
		if newest != nil {
			return newest.Name
		}
	}
	return ""
}
