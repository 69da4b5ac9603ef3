package storageprofile

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// noProvisioner is the provisioner of classes whose volumes an administrator makes by hand.
const noProvisioner = "kubernetes.io/no-provisioner"

// Reasons of the condition Recognized.
const (
	ReasonRecognized   = "RecognizedProvisioner"
	ReasonUnrecognized = "UnrecognizedProvisioner"
	ReasonParameters   = "UnrecognizedStorageClassParameters"
	ReasonUnsupported  = "UnsupportedProvisioner"
)

// Advice is what is known of a storage class.
type Advice struct {
	// Sets are the pairs of access and volume mode, best first. None means that the class cannot hold disks.
	Sets []cdi.ClaimPropertySet
	// Recognized tells that the table has the class; otherwise Sets are what any storage should do.
	Recognized bool
	Reason     string
	Message    string
	// Clone, Cron and Minimum are empty where the table has no advice.
	Clone   cdi.CDICloneStrategy
	Cron    cdi.DataImportCronSourceFormat
	Minimum string
	// OnceForCron tells that boot sources are imported ReadWriteOnce although the class can do more.
	OnceForCron bool
}

// Advise tells what a class can do. volumes are those that exist; they count for classes without a provisioner.
func Advise(class *storagev1.StorageClass, volumes []corev1.PersistentVolume) Advice {
	if class.Provisioner == noProvisioner {
		return byVolumes(class, volumes)
	}
	key, v := class.Provisioner, variant(class.Provisioner, class.Parameters)
	if v == unknown {
		return fallback(ReasonParameters, fmt.Sprintf("the parameters of the class do not say which volumes %s makes", class.Provisioner))
	}
	if v != "" {
		key += "/" + v
	}
	r, found := lookup(key)
	if !found {
		return fallback(ReasonUnrecognized, fmt.Sprintf("provisioner %s is not known", class.Provisioner))
	}
	if r.sets == "" {
		return Advice{Reason: ReasonUnsupported, Message: fmt.Sprintf("volumes of provisioner %s cannot hold disks; use another storage class", class.Provisioner)}
	}
	return Advice{
		Sets: parseSets(r.sets), Recognized: true, Reason: ReasonRecognized, Message: "",
		Clone: cdi.CDICloneStrategy(r.clone), Cron: cdi.DataImportCronSourceFormat(r.cron), Minimum: r.minimum, OnceForCron: r.onceForCron,
	}
}

// fallback is what every storage does.
func fallback(reason, why string) Advice {
	return Advice{
		Sets: parseSets("oF"), Reason: reason,
		Message: why + ": ReadWriteOnce and Filesystem are assumed, which every storage can do; if it can do more " +
			"(ReadWriteMany is needed for live migration), say so in spec.claimPropertySets of this StorageProfile",
	}
}

// byVolumes reads off the volumes that were made by hand.
func byVolumes(class *storagev1.StorageClass, volumes []corev1.PersistentVolume) Advice {
	have := map[string]bool{}
	for i := range volumes {
		v := &volumes[i]
		if v.Spec.StorageClassName != class.Name {
			continue
		}
		for _, mode := range v.Spec.AccessModes {
			if set := encode(mode, v.Spec.VolumeMode); set != "" {
				have[set] = true
			}
		}
	}
	var sets []string
	for _, set := range []string{"xB", "xF", "oB", "oF", "rB", "rF"} {
		if have[set] {
			sets = append(sets, set)
		}
	}
	if len(sets) == 0 {
		return fallback(ReasonUnrecognized, "the class has no provisioner and no volumes yet")
	}
	return Advice{Sets: parseSets(strings.Join(sets, ",")), Recognized: true, Reason: ReasonRecognized}
}

func encode(mode corev1.PersistentVolumeAccessMode, volume *corev1.PersistentVolumeMode) string {
	letter := map[corev1.PersistentVolumeAccessMode]string{
		corev1.ReadWriteMany: "x", corev1.ReadWriteOnce: "o", corev1.ReadWriteOncePod: "o", corev1.ReadOnlyMany: "r",
	}[mode]
	if letter == "" {
		return ""
	}
	if volume != nil && *volume == corev1.PersistentVolumeBlock {
		return letter + "B"
	}
	return letter + "F"
}

func parseSets(text string) []cdi.ClaimPropertySet {
	var out []cdi.ClaimPropertySet
	for _, pair := range strings.Split(text, ",") {
		access := map[byte]corev1.PersistentVolumeAccessMode{
			'x': corev1.ReadWriteMany, 'o': corev1.ReadWriteOnce, 'r': corev1.ReadOnlyMany,
		}[pair[0]]
		volume := corev1.PersistentVolumeFilesystem
		if pair[1] == 'B' {
			volume = corev1.PersistentVolumeBlock
		}
		out = append(out, cdi.ClaimPropertySet{AccessModes: []corev1.PersistentVolumeAccessMode{access}, VolumeMode: &volume})
	}
	return out
}

// Choose picks the modes for a claim that leaves some open: the best pair that agrees with what it says. nil means any.
func Choose(sets []cdi.ClaimPropertySet, access []corev1.PersistentVolumeAccessMode, volume *corev1.PersistentVolumeMode) (cdi.ClaimPropertySet, bool) {
	for _, set := range sets {
		if len(set.AccessModes) == 0 || set.VolumeMode == nil {
			continue
		}
		if volume != nil && *set.VolumeMode != *volume {
			continue
		}
		if len(access) > 0 && !slices.Contains(access, set.AccessModes[0]) {
			continue
		}
		return set, true
	}
	return cdi.ClaimPropertySet{}, false
}
