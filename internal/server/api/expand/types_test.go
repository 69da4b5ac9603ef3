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
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
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
	return Types{Reader: fake.NewClientBuilder().WithScheme(scheme).WithObjects(small).Build()}
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
