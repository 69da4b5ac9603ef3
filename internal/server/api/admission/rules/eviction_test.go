package rules

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// A machine that says it will move and cannot would keep its node from being emptied (seed 1.1.2).
func TestImmovable(t *testing.T) {
	volume := func(mode corev1.PersistentVolumeAccessMode) func(*v1.VirtualMachineSpec) {
		return func(vm *v1.VirtualMachineSpec) {
			vm.DataVolumeTemplates = []v1.DataVolumeTemplateSpec{{
				ObjectMeta: metav1.ObjectMeta{Name: "root"}, Spec: cdi.DataVolumeSpec{Storage: &cdi.StorageSpec{AccessModes: []corev1.PersistentVolumeAccessMode{mode}}},
			}}
		}
	}
	gpu := func(vm *v1.VirtualMachineSpec) {
		vm.Template.Spec.Domain.Devices.GPUs = []v1.GPU{{Name: "g", DeviceName: "d"}}
	}
	for _, c := range []struct {
		what     string
		strategy v1.EvictionStrategy
		change   func(*v1.VirtualMachineSpec)
		want     string
	}{
		{"plain", v1.EvictionStrategyLiveMigrate, func(*v1.VirtualMachineSpec) {}, ""},
		{"GPU", v1.EvictionStrategyLiveMigrate, gpu, "passed-through"},
		{"GPU, if possible", v1.EvictionStrategyLiveMigrateIfPossible, gpu, ""},
		{"shared volume", v1.EvictionStrategyLiveMigrate, volume(corev1.ReadWriteMany), ""},
		{"volume of one node", v1.EvictionStrategyLiveMigrate, volume(corev1.ReadWriteOnce), "data volume root is not ReadWriteMany"},
		{"file of the node", v1.EvictionStrategyLiveMigrate, func(vm *v1.VirtualMachineSpec) {
			vm.Template.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{HostDisk: &v1.HostDisk{}}}}
		}, "file of its node"},
	} {
		vm := &v1.VirtualMachineSpec{Template: &v1.VirtualMachineInstanceTemplateSpec{}}
		vm.Template.Spec.EvictionStrategy = &c.strategy
		c.change(vm)
		check := &Check{}
		immovable(check, field.NewPath("spec", "template", "spec"), vm, &vm.Template.Spec)
		switch {
		case c.want == "" && len(check.causes) > 0, c.want != "" && len(check.causes) != 1:
			t.Errorf("%s: %+v", c.what, check.causes)
		case c.want != "" && !strings.Contains(check.causes[0].Message, c.want):
			t.Errorf("%s: %q", c.what, check.causes[0].Message)
		}
	}
}
