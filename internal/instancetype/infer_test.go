package instancetype

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	v1 "kubevirt.io/api/core/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// A machine made from a golden image gets the size and the preferences that go with the image.
func TestInfer(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, cdi.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	labels := func(name string) map[string]string {
		return map[string]string{
			"instancetype.kubevirt.io/default-instancetype": name, "instancetype.kubevirt.io/default-preference": name,
			"instancetype.kubevirt.io/default-preference-kind": "VirtualMachinePreference",
		}
	}
	meta := func(namespace, name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
	}
	fromClaim := cdi.DataVolumeSpec{Source: &cdi.DataVolumeSource{PVC: &cdi.DataVolumeSourcePVC{Namespace: "images", Name: "golden"}}}
	images := "images"
	fromSource := cdi.DataVolumeSpec{SourceRef: &cdi.DataVolumeSourceRef{Kind: "DataSource", Namespace: &images, Name: "fedora"}}
	reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		&corev1.PersistentVolumeClaim{ObjectMeta: meta("ns", "claim", labels("of-claim"))},
		&corev1.PersistentVolumeClaim{ObjectMeta: meta("ns", "plain", nil)},
		&corev1.PersistentVolumeClaim{ObjectMeta: meta("images", "golden", labels("of-golden"))},
		&cdi.DataVolume{ObjectMeta: meta("ns", "volume", labels("of-volume"))},
		&cdi.DataVolume{ObjectMeta: meta("ns", "copy", nil), Spec: fromClaim},
		&cdi.DataSource{ObjectMeta: meta("images", "fedora", nil), Spec: cdi.DataSourceSpec{Source: cdi.DataSourceSource{
			PVC: &cdi.DataVolumeSourcePVC{Namespace: "images", Name: "golden"},
		}}},
	).Build()
	claim := func(name string) v1.VolumeSource {
		return v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{PersistentVolumeClaimVolumeSource: corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}}
	}
	volume := func(name string) v1.VolumeSource {
		return v1.VolumeSource{DataVolume: &v1.DataVolumeSource{Name: name}}
	}
	ignore := v1.IgnoreInferFromVolumeFailure
	for _, c := range []struct {
		what     string
		source   v1.VolumeSource
		template *v1.DataVolumeTemplateSpec
		policy   *v1.InferFromVolumeFailurePolicy
		want     string // "" for no reference, an error begins with "!"
	}{
		{"claim", claim("claim"), nil, nil, "of-claim"},
		{"data volume", volume("volume"), nil, nil, "of-volume"},
		{"source of a data volume", volume("copy"), nil, nil, "of-golden"},
		{"template", volume("new"), &v1.DataVolumeTemplateSpec{ObjectMeta: meta("", "new", labels("of-template"))}, nil, "of-template"},
		{"template's claim", volume("new"), &v1.DataVolumeTemplateSpec{ObjectMeta: meta("", "new", nil), Spec: fromClaim}, nil, "of-golden"},
		{"template's data source", volume("new"), &v1.DataVolumeTemplateSpec{ObjectMeta: meta("", "new", nil), Spec: fromSource}, nil, "of-golden"},
		{"claim, failures ignored", claim("claim"), nil, &ignore, "of-claim"},
		{"no label", claim("plain"), nil, nil, "!has the label"},
		{"no label, ignored", claim("plain"), nil, &ignore, ""},
		{"no claim", claim("nowhere"), nil, nil, "!has the label"},
		{"container disk", v1.VolumeSource{ContainerDisk: &v1.ContainerDiskSource{}}, nil, nil, "!only claims"},
	} {
		vm := &v1.VirtualMachine{ObjectMeta: meta("ns", "vm", nil)}
		vm.Spec.Template = &v1.VirtualMachineInstanceTemplateSpec{Spec: v1.VirtualMachineInstanceSpec{Volumes: []v1.Volume{{Name: "root", VolumeSource: c.source}}}}
		if c.template != nil {
			vm.Spec.DataVolumeTemplates = []v1.DataVolumeTemplateSpec{*c.template}
		}
		vm.Spec.Instancetype = &v1.InstancetypeMatcher{InferFromVolume: "root", InferFromVolumeFailurePolicy: c.policy}
		vm.Spec.Preference = &v1.PreferenceMatcher{InferFromVolume: "root", InferFromVolumeFailurePolicy: c.policy}
		vm.Spec.Template.Spec.Domain.Memory = &v1.Memory{}
		err := Infer(context.Background(), client.Reader(reader), vm)
		it, p := vm.Spec.Instancetype, vm.Spec.Preference
		// Memory beside an inference that may fail is for its failure.
		if kept := vm.Spec.Template.Spec.Domain.Memory != nil; kept == (c.policy == &ignore && c.want != "") {
			t.Errorf("%s: memory kept: %v", c.what, kept)
		}
		switch {
		case strings.HasPrefix(c.want, "!"):
			if err == nil || !strings.Contains(err.Error(), c.want[1:]) {
				t.Errorf("%s: %v, want %q", c.what, err, c.want)
			}
		case err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want == "":
			if it != nil || p != nil {
				t.Errorf("%s: %+v, %+v", c.what, it, p)
			}
		case it.Name != c.want || it.Kind != "virtualmachineclusterinstancetype" || it.InferFromVolume != "" || p.Name != c.want || p.Kind != "VirtualMachinePreference":
			t.Errorf("%s: %+v, %+v", c.what, it, p)
		}
	}
}
