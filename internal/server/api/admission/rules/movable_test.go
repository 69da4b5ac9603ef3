package rules

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
)

// readClaim knows a claim of one node and a shared one.
func readClaim(name string) *corev1.PersistentVolumeClaim {
	mode, ok := map[string]corev1.PersistentVolumeAccessMode{"own": corev1.ReadWriteOnce, "shared": corev1.ReadWriteMany}[name]
	if !ok {
		return nil
	}
	return &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{mode}}}
}

func onClaim(name string, plugged bool) v1.Volume {
	return v1.Volume{Name: "d", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{
		PersistentVolumeClaimVolumeSource: corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}, Hotpluggable: plugged,
	}}}
}

// A VM whose claim keeps it where it is cannot say that it moves (seed 1.1.2). What stands there already keeps nobody from changing the rest.
func TestClaimsOfOneNodeAreRefused(t *testing.T) {
	spec := func(strategy v1.EvictionStrategy, volumes ...v1.Volume) *v1.VirtualMachineInstanceSpec {
		return &v1.VirtualMachineInstanceSpec{EvictionStrategy: &strategy, Volumes: volumes}
	}
	data := v1.Volume{Name: "d", VolumeSource: v1.VolumeSource{DataVolume: &v1.DataVolumeSource{Name: "own"}}}
	const move, ifPossible = v1.EvictionStrategyLiveMigrate, v1.EvictionStrategyLiveMigrateIfPossible
	const why = "cannot be LiveMigrate: spec.volumes[0].persistentVolumeClaim.claimName: claim own is not ReadWriteMany"
	for _, c := range []struct {
		what     string
		old, now *v1.VirtualMachineInstanceSpec
		want     string
	}{
		{"new VM", nil, spec(move, onClaim("own", false)), why},
		{"its data volume", nil, spec(move, data), "spec.volumes[0].dataVolume.name: claim own is not ReadWriteMany"},
		{"shared", nil, spec(move, onClaim("shared", false)), ""},
		{"claim to come", nil, spec(move, onClaim("later", false)), ""},
		{"if possible", nil, spec(ifPossible, onClaim("own", false)), ""},
		{"plugged", spec(move), spec(move, onClaim("own", true)), ""},
		{"as before", spec(move, onClaim("own", false)), spec(move, onClaim("own", false)), ""},
		{"strategy changed", spec(ifPossible, onClaim("own", false)), spec(move, onClaim("own", false)), why},
		{"claim changed", spec(move, onClaim("shared", false)), spec(move, onClaim("own", false)), why},
	} {
		got := Stays{At: field.NewPath("spec"), Spec: c.now, Claim: readClaim}.Refusals(c.old)
		switch {
		case c.want == "" && len(got) > 0, c.want != "" && len(got) != 1:
			t.Errorf("%s: %+v", c.what, got)
		case c.want != "" && (got[0].Field != "spec.evictionStrategy" || !strings.Contains(got[0].Message, c.want)):
			t.Errorf("%s: %+v", c.what, got[0])
		}
	}
}

// Who wants a machine moved that cannot move hears it when he writes that down, not when the node is to be emptied.
func TestStays(t *testing.T) {
	data := v1.Volume{Name: "d", VolumeSource: v1.VolumeSource{DataVolume: &v1.DataVolumeSource{Name: "own"}}}
	bridge := func(spec *v1.VirtualMachineInstanceSpec) {
		spec.Networks = []v1.Network{{Name: "n", NetworkSource: v1.NetworkSource{Pod: &v1.PodNetwork{}}}}
		spec.Domain.Devices.Interfaces = []v1.Interface{{Name: "n", InterfaceBindingMethod: v1.InterfaceBindingMethod{Bridge: &v1.InterfaceBridge{}}}}
	}
	second := func(spec *v1.VirtualMachineInstanceSpec) {
		bridge(spec)
		spec.Networks[0].NetworkSource = v1.NetworkSource{Multus: &v1.MultusNetwork{NetworkName: "lan"}}
	}
	with := func(v ...v1.Volume) func(*v1.VirtualMachineInstanceSpec) {
		return func(spec *v1.VirtualMachineInstanceSpec) { spec.Volumes = v }
	}
	allowed := map[string]string{v1.AllowPodBridgeNetworkLiveMigrationAnnotation: ""}
	for _, c := range []struct {
		what        string
		strategy    v1.EvictionStrategy
		annotations map[string]string
		change      func(*v1.VirtualMachineInstanceSpec)
		want        string
	}{
		{"claim of one node", v1.EvictionStrategyLiveMigrate, nil, with(onClaim("own", false)), "spec.volumes[0].persistentVolumeClaim.claimName: claim own is not ReadWriteMany"},
		{"its data volume", v1.EvictionStrategyLiveMigrate, nil, with(data), "spec.volumes[0].dataVolume.name: claim own is not ReadWriteMany"},
		{"shared claim", v1.EvictionStrategyLiveMigrate, nil, with(onClaim("shared", false)), ""},
		{"claim to come", v1.EvictionStrategyLiveMigrate, nil, with(onClaim("later", false)), ""},
		{"if possible", v1.EvictionStrategyLiveMigrateIfPossible, nil, with(onClaim("own", false)), ""},
		{"bridge", v1.EvictionStrategyLiveMigrate, nil, bridge, "spec.domain.devices.interfaces[0].bridge: the guest has its pod's address"},
		{"bridge, allowed", v1.EvictionStrategyLiveMigrate, allowed, bridge, ""},
		{"bridge to another network", v1.EvictionStrategyLiveMigrate, nil, second, ""},
	} {
		spec := &v1.VirtualMachineInstanceSpec{EvictionStrategy: &c.strategy}
		c.change(spec)
		got := strings.Join(Stays{At: field.NewPath("spec"), Spec: spec, Annotations: c.annotations, Claim: readClaim}.Warnings(), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
		if got != "" && !strings.Contains(got, "spec.evictionStrategy is LiveMigrate") {
			t.Errorf("%s: the field is not named: %q", c.what, got)
		}
	}
}
