package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

func dataVolumes(c *Check, at *field.Path, spec *v1.VirtualMachineSpec) {
	names := map[string]bool{}
	for i := range spec.DataVolumeTemplates {
		d := &spec.DataVolumeTemplates[i]
		entry := at.Child("dataVolumeTemplates").Index(i)
		if d.Name == "" {
			c.required(entry.Child("name"), "'name' field must not be empty for DataVolumeTemplate entry %s.", entry)
			continue
		}
		if names[d.Name] {
			c.duplicate(entry.Child("name"), "%s %q is used by another entry", entry.Child("name"), d.Name)
		}
		names[d.Name] = true
		storage(c, entry, &d.Spec)
		used := slices.ContainsFunc(spec.Template.Spec.Volumes, func(v v1.Volume) bool {
			return (v.DataVolume != nil && v.DataVolume.Name == d.Name) ||
				(v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == d.Name)
		})
		if !used {
			c.required(entry, "DataVolumeTemplate entry %s must be referenced in the VMI template's 'volumes' list", entry)
		}
	}
}

// storage judges where a data volume's contents come from and where they go.
func storage(c *Check, at *field.Path, spec *cdiv1.DataVolumeSpec) {
	switch {
	case spec.PVC == nil && spec.Storage == nil:
		c.required(at.Child("spec"), "Missing Data volume PVC or Storage in %s", at)
		return
	case spec.PVC != nil && spec.Storage != nil:
		c.invalid(at.Child("spec"), "Duplicate storage definition, both target storage and target pvc defined in %s", at)
	}
	populated := (spec.PVC != nil && (spec.PVC.DataSource != nil || spec.PVC.DataSourceRef != nil)) ||
		(spec.Storage != nil && (spec.Storage.DataSource != nil || spec.Storage.DataSourceRef != nil))
	if count(spec.Source != nil, spec.SourceRef != nil, populated) != 1 {
		c.invalid(at.Child("spec"), "Data volume should have either Source or SourceRef, or be externally populated (%s)", at.Child("spec"))
	}
	if ref := spec.SourceRef; ref != nil {
		if ref.Kind != "DataSource" {
			c.unsupported(at.Child("spec", "sourceRef", "kind"), "%s %q is not supported, must be DataSource", at.Child("spec", "sourceRef", "kind"), ref.Kind)
		}
		if ref.Name == "" {
			c.required(at.Child("spec", "sourceRef", "name"), "%s must not be empty", at.Child("spec", "sourceRef", "name"))
		}
	}
	if s := spec.Source; s != nil {
		if n := count(s.HTTP != nil, s.S3 != nil, s.GCS != nil, s.Registry != nil, s.PVC != nil, s.Upload != nil, s.Blank != nil,
			s.Imageio != nil, s.VDDK != nil, s.Snapshot != nil); n != 1 {
			c.invalid(at.Child("spec", "source"), "%s must have exactly one source, not %d", at.Child("spec", "source"), n)
		}
	}
}
