package rules

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
)

// Stays is what a machine is judged by that says it will migrate.
type Stays struct {
	// At is where Spec stands in the object, Annotations are those the machine will have.
	At          *field.Path
	Spec        *v1.VirtualMachineInstanceSpec
	Annotations map[string]string
	// Claim reads a claim; nil if there is none yet.
	Claim func(name string) *corev1.PersistentVolumeClaim
}

// Warnings tell of evictionStrategy LiveMigrate on a machine that will not be able to migrate for a reason that may change: manifests with
// it are accepted everywhere, and the running machine's condition LiveMigratable says the same. What never can migrate is refused.
func (s Stays) Warnings() []string {
	if own := s.Spec.EvictionStrategy; own == nil || *own != v1.EvictionStrategyLiveMigrate {
		return nil
	}
	var out []string
	warn := func(at *field.Path, why, cure string) {
		out = append(out, fmt.Sprintf("%s is LiveMigrate, but the machine cannot migrate: %s: %s. A drain of its node will wait until it is stopped. %s, or use %s or None.",
			s.At.Child("evictionStrategy"), at, why, cure, v1.EvictionStrategyLiveMigrateIfPossible))
	}
	for i, volume := range s.Spec.Volumes {
		name, at := "", s.At.Child("volumes").Index(i)
		switch {
		case volume.PersistentVolumeClaim != nil:
			name, at = volume.PersistentVolumeClaim.ClaimName, at.Child("persistentVolumeClaim", "claimName")
		case volume.DataVolume != nil:
			name, at = volume.DataVolume.Name, at.Child("dataVolume", "name")
		default:
			continue
		}
		if claim := s.Claim(name); claim != nil && !slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteMany) {
			warn(at, "claim "+name+" is not ReadWriteMany, so that two nodes cannot use it at once", "Use a ReadWriteMany claim")
		}
	}
	if _, allowed := s.Annotations[v1.AllowPodBridgeNetworkLiveMigrationAnnotation]; allowed {
		return out
	}
	for i, iface := range s.Spec.Domain.Devices.Interfaces {
		onPods := slices.ContainsFunc(s.Spec.Networks, func(n v1.Network) bool { return n.Name == iface.Name && n.Pod != nil })
		if iface.Bridge != nil && onPods {
			warn(s.At.Child("domain", "devices", "interfaces").Index(i).Child("bridge"),
				"the guest has its pod's address, which the next pod will not have", "Use masquerade")
		}
	}
	return out
}
