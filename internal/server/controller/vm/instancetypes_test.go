package vm

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	api "kubevirt.io/api/instancetype"
	"kubevirt.io/api/instancetype/v1beta1"

	"virtctl/internal/clusterconfig"
)

// typedVM is a stopped VM with an instance type, and that instance type.
func typedVM(t *testing.T, change ...func(*v1.VirtualMachine)) *world {
	t.Helper()
	small := &v1beta1.VirtualMachineClusterInstancetype{ObjectMeta: metav1.ObjectMeta{Name: "small", UID: "it", Generation: 1}}
	small.Spec.CPU.Guest, small.Spec.Memory.Guest = 2, resource.MustParse("256Mi")
	return newWorld(t, small, newVM(v1.RunStrategyHalted, append([]func(*v1.VirtualMachine){func(vm *v1.VirtualMachine) {
		vm.Spec.Template.Spec.Domain.Memory = nil
		vm.Spec.Instancetype = &v1.InstancetypeMatcher{Name: "small"}
	}}, change...)...))
}

func (w *world) copies() []appsv1.ControllerRevision {
	w.t.Helper()
	list := &appsv1.ControllerRevisionList{}
	if err := w.c.List(context.Background(), list); err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

// A VM is what it was when it was made, not what its instance type says at its first start.
func TestCopyOfTypesBeforeTheFirstStart(t *testing.T) {
	w := typedVM(t)
	w.reconcile()
	copies := w.copies()
	if len(copies) != 1 || copyOf(w.vm().Status.InstancetypeRef) != copies[0].Name {
		t.Fatalf("copies %v, reference %+v", copies, w.vm().Status.InstancetypeRef)
	}
	before := len(w.writes)
	w.reconcile()
	if got := w.writes[before:]; len(got) != 0 {
		t.Errorf("writes without a change: %v", got)
	}
}

// A copy from before copies told their version is replaced, and only then dropped.
func TestOutdatedCopyIsReplaced(t *testing.T) {
	w := typedVM(t)
	w.reconcile()
	latest := w.copies()[0]
	old := latest.DeepCopy()
	old.Name, old.ResourceVersion = "web-small-it-1", ""
	delete(old.Labels, api.ControllerRevisionObjectVersionLabel)
	if err := w.c.Create(context.Background(), old); err != nil {
		t.Fatal(err)
	}
	vm := w.vm()
	vm.Status.InstancetypeRef.ControllerRevisionRef.Name = old.Name
	if err := w.c.Status().Update(context.Background(), vm); err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	if copies := w.copies(); len(copies) != 1 || copies[0].Name != latest.Name || copyOf(w.vm().Status.InstancetypeRef) != latest.Name {
		t.Errorf("copies %v, reference %+v", copies, w.vm().Status.InstancetypeRef)
	}
}

// A ControllerRevision of the copy's name with another content is somebody else's doing: the VM must not run with it.
func TestForeignCopyIsRefused(t *testing.T) {
	w := typedVM(t)
	w.reconcile()
	changed := w.copies()[0].DeepCopy()
	changed.Data.Raw = []byte(strings.Replace(string(changed.Data.Raw), `"256Mi"`, `"1Gi"`, 1))
	if err := w.c.Update(context.Background(), changed); err != nil {
		t.Fatal(err)
	}
	vm := w.vm()
	vm.Status = v1.VirtualMachineStatus{}
	if err := w.c.Status().Update(context.Background(), vm); err != nil {
		t.Fatal(err)
	}
	if _, err := w.try(); err == nil {
		t.Error("should be tried again")
	}
	if c := vmCondition(w.vm(), v1.VirtualMachineFailure); !strings.Contains(c.Message, "found existing ControllerRevision with unexpected data") {
		t.Errorf("Failure %+v", c)
	}
}

func TestMissingTypesHaveTheirReason(t *testing.T) {
	cases := map[string]func(*v1.VirtualMachine){
		reasonNoInstancetype: func(vm *v1.VirtualMachine) { vm.Spec.Instancetype.Name = "none" },
		reasonNoPreference:   func(vm *v1.VirtualMachine) { vm.Spec.Preference = &v1.PreferenceMatcher{Name: "none"} },
	}
	for reason, change := range cases {
		t.Run(reason, func(t *testing.T) {
			w := typedVM(t, change, func(vm *v1.VirtualMachine) { *vm.Spec.RunStrategy = v1.RunStrategyAlways })
			if _, err := w.try(); err == nil {
				t.Error("should be tried again")
			}
			if c := vmCondition(w.vm(), v1.VirtualMachineFailure); c.Reason != reason {
				t.Errorf("Failure %+v", c)
			}
			w.expect(v1.VirtualMachineStatusStopped)
		})
	}
}

func TestReferencePolicies(t *testing.T) {
	cases := []struct {
		policy   v1.InstancetypeReferencePolicy
		kept     bool // the VM was seen with its instance type before
		expanded bool
	}{
		{v1.Reference, false, false},
		{v1.Expand, false, true},
		{v1.Expand, true, false},
		{v1.ExpandAll, true, true},
	}
	for _, c := range cases {
		w := typedVM(t)
		if c.kept {
			w.reconcile()
		}
		kv := &v1.KubeVirt{}
		kv.Spec.Configuration.Instancetype = &v1.InstancetypeConfiguration{ReferencePolicy: &c.policy}
		w.r.Config = clusterconfig.Fixed(kv)
		w.reconcile()
		w.reconcile()
		vm := w.vm()
		if expanded := vm.Spec.Instancetype == nil; expanded != c.expanded {
			t.Errorf("%s, kept %v: instance type %+v", c.policy, c.kept, vm.Spec.Instancetype)
		}
		if c.expanded && (vm.Spec.Template.Spec.Domain.Memory.Guest.String() != "256Mi" || vm.Status.InstancetypeRef != nil) {
			t.Errorf("%s: memory %+v, reference %+v", c.policy, vm.Spec.Template.Spec.Domain.Memory, vm.Status.InstancetypeRef)
		}
	}
}
