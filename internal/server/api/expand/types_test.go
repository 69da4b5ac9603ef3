package expand

import (
	"context"
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"virtctl/internal/clusterconfig"
)

func types(t *testing.T) Types {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1.AddToScheme, v1beta1.AddToScheme, appsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	small := &v1beta1.VirtualMachineClusterInstancetype{
		ObjectMeta: metav1.ObjectMeta{Name: "u1.small"},
		Spec: v1beta1.VirtualMachineInstancetypeSpec{
			CPU: v1beta1.CPUInstancetype{Guest: 2}, Memory: v1beta1.MemoryInstancetype{Guest: resource.MustParse("1Gi")},
		},
	}
	return Types{Reader: fake.NewClientBuilder().WithScheme(scheme).WithObjects(small).Build(), Config: clusterconfig.Fixed(nil)}
}

func machine(change func(*v1.VirtualMachine)) *v1.VirtualMachine {
	vm := &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Name: "vm", Namespace: "ns"}}
	vm.Spec.Template = &v1.VirtualMachineInstanceTemplateSpec{}
	vm.Spec.Instancetype = &v1.InstancetypeMatcher{Name: "u1.small"}
	change(vm)
	return vm
}

func TestExpandAppliesAndRemovesTheReference(t *testing.T) {
	out, err := types(t).Expand(context.Background(), machine(func(*v1.VirtualMachine) {}))
	if err != nil {
		t.Fatal(err)
	}
	if out.Spec.Instancetype != nil || out.Spec.Template.Spec.Domain.CPU.Sockets != 2 || out.Spec.Template.Spec.Domain.Memory.Guest.String() != "1Gi" {
		t.Errorf("expanded to %+v", out.Spec)
	}
}

// Machines made by a tool name neither their disks nor their network: a preference counts for those all the same.
func TestExpandPrefersForDevicesThatAreNotNamed(t *testing.T) {
	e := types(t)
	windows := &v1beta1.VirtualMachineClusterPreference{ObjectMeta: metav1.ObjectMeta{Name: "windows"}}
	windows.Spec.Devices = &v1beta1.DevicePreferences{PreferredDiskBus: v1.DiskBusSATA, PreferredInterfaceModel: "e1000e"}
	if err := e.Reader.(client.Client).Create(context.Background(), windows); err != nil {
		t.Fatal(err)
	}
	out, err := e.Expand(context.Background(), machine(func(vm *v1.VirtualMachine) {
		vm.Spec.Preference = &v1.PreferenceMatcher{Name: "windows"}
		vm.Spec.Template.Spec.Volumes = []v1.Volume{{Name: "root"}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	d := out.Spec.Template.Spec.Domain.Devices
	if len(d.Disks) != 1 || d.Disks[0].Disk == nil || d.Disks[0].Disk.Bus != v1.DiskBusSATA || len(d.Interfaces) != 1 || d.Interfaces[0].Model != "e1000e" {
		t.Errorf("devices %+v", d)
	}
}

// What does not exist yet may come later; a kind that nobody knows will not.
func TestMissingIsToldFromWrong(t *testing.T) {
	_, missing := types(t).Expand(context.Background(), machine(func(vm *v1.VirtualMachine) { vm.Spec.Instancetype.Name = "nope" }))
	_, wrong := types(t).Expand(context.Background(), machine(func(vm *v1.VirtualMachine) { vm.Spec.Instancetype.Kind = "Deployment" }))
	if !IsMissing(missing) || IsMissing(wrong) {
		t.Errorf("missing: %v, wrong: %v", missing, wrong)
	}
}

// A refusal names the field, so that the user knows which of the two to change.
func TestExpandNamesTheField(t *testing.T) {
	cases := map[string]struct {
		change func(*v1.VirtualMachine)
		field  string
	}{
		"conflict": {func(vm *v1.VirtualMachine) {
			guest := resource.MustParse("2Gi")
			vm.Spec.Template.Spec.Domain.Memory = &v1.Memory{Guest: &guest}
		}, "spec.template.spec.domain.memory.guest"},
		"unknown name": {func(vm *v1.VirtualMachine) { vm.Spec.Instancetype.Name = "nope" }, "spec.instancetype"},
		"unknown kind": {func(vm *v1.VirtualMachine) { vm.Spec.Instancetype.Kind = "Deployment" }, "spec.instancetype"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := types(t).Expand(context.Background(), machine(c.change))
			var status apierrors.APIStatus
			if !errors.As(err, &status) {
				t.Fatalf("got %v", err)
			}
			s := status.Status()
			if s.Code != 422 || s.Details == nil || len(s.Details.Causes) != 1 || s.Details.Causes[0].Field != c.field {
				t.Errorf("got %+v", s)
			}
		})
	}
}
