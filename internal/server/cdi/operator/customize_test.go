package operator

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	components "virtctl/internal/install/components/cdi"
)

func proxyOf(t *testing.T, objects []runtime.Object) *appsv1.Deployment {
	t.Helper()
	for _, obj := range objects {
		if d, ok := obj.(*appsv1.Deployment); ok && d.Name == names.DeploymentUploadProxy {
			return d
		}
	}
	t.Fatal("no upload proxy")
	return nil
}

// Who changes a component through the resource gets that change and no other, and learns which patch is wrong.
func TestCustomize(t *testing.T) {
	o := components.Options{Namespace: "kubevirt", Registry: "r", Tag: "t"}
	rendered := []runtime.Object{components.APIServer(o), components.UploadProxy(o)}
	patch := func(kind, name string, how cdiv1.PatchType, text string) cdiv1.CustomizeComponents {
		return cdiv1.CustomizeComponents{Patches: []cdiv1.CustomizeComponentsPatch{{ResourceType: kind, ResourceName: name, Type: how, Patch: text}}}
	}
	for _, tc := range []struct {
		name  string
		with  cdiv1.CustomizeComponents
		check func(*appsv1.Deployment) bool
	}{
		{"nothing", cdiv1.CustomizeComponents{}, func(d *appsv1.Deployment) bool { return d == rendered[1] }},
		{
			"merge", patch("Deployment", "cdi-uploadproxy", cdiv1.MergePatchType, `{"metadata":{"labels":{"a":"b"}}}`),
			func(d *appsv1.Deployment) bool { return d.Labels["a"] == "b" && d.Labels[names.LabelComponent] != "" },
		},
		{
			"json", patch("deployment", "cdi-uploadproxy", cdiv1.JSONPatchType, `[{"op":"replace","path":"/spec/replicas","value":3}]`),
			func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 3 },
		},
		{
			"strategic", patch("Deployment", "*", cdiv1.StrategicMergePatchType,
				`{"spec":{"template":{"spec":{"containers":[{"name":"cdi-uploadproxy","resources":{"limits":{"memory":"90Mi"}}}]}}}}`),
			func(d *appsv1.Deployment) bool {
				c := d.Spec.Template.Spec.Containers
				return len(c) == 1 && c[0].Resources.Limits.Memory().String() == "90Mi" && c[0].Image != ""
			},
		},
		{
			"another object", patch("Deployment", "cdi-apiserver", cdiv1.MergePatchType, `{"metadata":{"labels":{"a":"b"}}}`),
			func(d *appsv1.Deployment) bool { return d.Labels["a"] == "" },
		},
		{
			"flags",
			cdiv1.CustomizeComponents{Flags: &cdiv1.Flags{UploadProxy: map[string]string{"port": "8443", "drain": "1m"}}},
			func(d *appsv1.Deployment) bool {
				return slices.Equal(d.Spec.Template.Spec.Containers[0].Args, []string{"--drain=1m", "--port=8443"})
			},
		},
	} {
		out, err := customize(rendered, tc.with)
		if err != nil || len(out) != 2 || !tc.check(proxyOf(t, out)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if *components.UploadProxy(o).Spec.Replicas != 1 || proxyOf(t, rendered).Labels["a"] != "" {
		t.Error("what was rendered has been changed")
	}
	for _, bad := range []cdiv1.CustomizeComponents{
		patch("Deployment", "cdi-uploadproxy", cdiv1.JSONPatchType, `[{"op":"replace","path":"/nowhere","value":1}]`),
		patch("Deployment", "cdi-uploadproxy", cdiv1.MergePatchType, `{`),
		patch("Deployment", "cdi-uploadproxy", cdiv1.MergePatchType, `{"spec":{"replicas":"many"}}`),
		patch("Deployment", "cdi-uploadproxy", "magic", `{}`),
	} {
		if _, err := customize(rendered, bad); err == nil || !strings.Contains(err.Error(), "cdi-uploadproxy") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func FuzzCustomize(f *testing.F) {
	f.Add("json", `[{"op":"remove","path":"/spec"}]`)
	f.Add("merge", `{"spec":null}`)
	f.Add("strategic", `{"spec":{"template":{"spec":{"containers":[{"$patch":"delete","name":"cdi-uploadproxy"}]}}}}`)
	o := components.Options{Namespace: "kubevirt", Registry: "r", Tag: "t"}
	f.Fuzz(func(_ *testing.T, how, text string) {
		_, _ = customize([]runtime.Object{components.UploadProxy(o)}, cdiv1.CustomizeComponents{
			Patches: []cdiv1.CustomizeComponentsPatch{{ResourceType: "Deployment", ResourceName: "*", Type: cdiv1.PatchType(how), Patch: text}},
		})
	})
}
