package rules

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/claims"
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

// Refusals are the claims that keep a VM from migrating whose owner says that it shall: a node with it could not be emptied. A claim of one
// node is that for ever. Not judged: what may be pulled out again, and what old, the VM's template so far, says already; nil for a new VM.
func (s Stays) Refusals(old *v1.VirtualMachineInstanceSpec) []metav1.StatusCause {
	if !mustMove(s.Spec) {
		return nil
	}
	known := map[string]bool{}
	if old != nil && mustMove(old) {
		for _, v := range old.Volumes {
			known[claims.Of(v.VolumeSource)] = true
		}
	}
	c := &Check{}
	for i, v := range s.Spec.Volumes {
		if name := claims.Of(v.VolumeSource); !known[name] && !claims.Pluggable(v.VolumeSource) && s.ofOneNode(name) {
			c.notMovable(s.At, fmt.Sprintf("%s: %s", claimPath(s.At, i, v), notShared("claim "+name)))
		}
	}
	return c.causes
}

// Warnings tell of evictionStrategy LiveMigrate on a machine that will not be able to migrate and yet is accepted: manifests with it are
// accepted everywhere, and the running machine's condition LiveMigratable says the same.
func (s Stays) Warnings() []string {
	if !mustMove(s.Spec) {
		return nil
	}
	var out []string
	warn := func(at *field.Path, why, cure string) {
		out = append(out, fmt.Sprintf("%s is LiveMigrate, but the machine cannot migrate: %s: %s. A drain of its node will wait until it is stopped. %s, or use %s or None.",
			s.At.Child("evictionStrategy"), at, why, cure, v1.EvictionStrategyLiveMigrateIfPossible))
	}
	for i, v := range s.Spec.Volumes {
		if name := claims.Of(v.VolumeSource); s.ofOneNode(name) {
			warn(claimPath(s.At, i, v), notShared("claim "+name), "Use a ReadWriteMany claim")
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

func mustMove(spec *v1.VirtualMachineInstanceSpec) bool {
	return spec.EvictionStrategy != nil && *spec.EvictionStrategy == v1.EvictionStrategyLiveMigrate
}

// ofOneNode tells whether a claim is there and no second node can use it.
func (s Stays) ofOneNode(name string) bool {
	if name == "" {
		return false
	}
	claim := s.Claim(name)
	return claim != nil && !slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteMany)
}

func notShared(storage string) string {
	return storage + " is not ReadWriteMany, so that two nodes cannot use it at once"
}

func claimPath(spec *field.Path, i int, v v1.Volume) *field.Path {
	at := spec.Child("volumes").Index(i)
	if v.PersistentVolumeClaim != nil {
		return at.Child("persistentVolumeClaim", "claimName")
	}
	return at.Child("dataVolume", "name")
}
