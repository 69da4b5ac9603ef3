package volume

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// Source says in a few words what fills a data volume.
func Source(dv *cdiv1.DataVolume) string {
	if ref := dv.Spec.SourceRef; ref != nil {
		namespace := dv.Namespace
		if ref.Namespace != nil {
			namespace = *ref.Namespace
		}
		return "datasource " + namespace + "/" + ref.Name
	}
	source := dv.Spec.Source
	switch {
	case source == nil:
		return "-"
	case source.HTTP != nil:
		return source.HTTP.URL
	case source.S3 != nil:
		return "s3 " + source.S3.URL
	case source.GCS != nil:
		return "gcs " + source.GCS.URL
	case source.Registry != nil && source.Registry.URL != nil:
		return *source.Registry.URL
	case source.Registry != nil && source.Registry.ImageStream != nil:
		return "imagestream " + *source.Registry.ImageStream
	case source.PVC != nil:
		return "pvc " + source.PVC.Namespace + "/" + source.PVC.Name
	case source.Snapshot != nil:
		return "snapshot " + source.Snapshot.Namespace + "/" + source.Snapshot.Name
	case source.Upload != nil:
		return "upload"
	case source.Blank != nil:
		return "blank"
	case source.Imageio != nil:
		return "imageio " + source.Imageio.URL
	case source.VDDK != nil:
		return "vddk " + source.VDDK.URL
	}
	return "-"
}

// Size is the size that a data volume asks for.
func Size(dv *cdiv1.DataVolume) string {
	var requests corev1.ResourceList
	switch {
	case dv.Spec.Storage != nil:
		requests = dv.Spec.Storage.Resources.Requests
	case dv.Spec.PVC != nil:
		requests = dv.Spec.PVC.Resources.Requests
	}
	if size, ok := requests[corev1.ResourceStorage]; ok {
		return size.String()
	}
	return "-"
}

// Sets writes what a storage profile offers, the preferred first: RWX/Block.
func Sets(profile *cdiv1.StorageProfile) []string {
	var all []string
	for _, set := range profile.Status.ClaimPropertySets {
		mode := corev1.PersistentVolumeFilesystem
		if set.VolumeMode != nil {
			mode = *set.VolumeMode
		}
		all = append(all, Access(set.AccessModes)+"/"+string(mode))
	}
	return all
}

// Access writes access modes as kubectl does.
func Access(modes []corev1.PersistentVolumeAccessMode) string {
	short := make([]string, 0, len(modes))
	for _, mode := range modes {
		short = append(short, map[corev1.PersistentVolumeAccessMode]string{
			corev1.ReadWriteOnce: "RWO", corev1.ReadWriteMany: "RWX", corev1.ReadOnlyMany: "ROX", corev1.ReadWriteOncePod: "RWOP",
		}[mode])
	}
	return strings.Join(short, ",")
}

// Named reads the arguments of commands that take disks besides machines: "dv NAME...", "dv/NAME...", the same with pvc. The kind is
// dv or pvc; ok is false when the arguments mean something else.
func Named(args []string) (kind string, found []string, ok bool) {
	if len(args) == 0 {
		return "", nil, false
	}
	word, name, slash := strings.Cut(args[0], "/")
	switch strings.ToLower(word) {
	case "dv", "dvs", "datavolume", "datavolumes", "datavolume.cdi.kubevirt.io", "datavolumes.cdi.kubevirt.io":
		kind = "dv"
	case "pvc", "pvcs", "persistentvolumeclaim", "persistentvolumeclaims", "disk", "disks":
		kind = "pvc"
	default:
		return "", nil, false
	}
	// A machine may be called "dv": alone it is a name.
	if !slash && len(args) == 1 {
		return "", nil, false
	}
	if slash {
		found = append(found, name)
	}
	for _, arg := range args[1:] {
		if _, name, slash := strings.Cut(arg, "/"); slash {
			arg = name
		}
		found = append(found, arg)
	}
	return kind, found, true
}
