package operator

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
)

// customize applies spec.customizeComponents to what is rendered: flags first, then patches in their order.
func customize(objects []runtime.Object, c cdiv1.CustomizeComponents) ([]runtime.Object, error) {
	if c.Flags == nil && len(c.Patches) == 0 {
		return objects, nil
	}
	out := make([]runtime.Object, 0, len(objects))
	for _, obj := range objects {
		obj = obj.DeepCopyObject()
		setFlags(obj, c.Flags)
		for _, p := range c.Patches {
			changed, err := patched(obj, p)
			if err != nil {
				return nil, err
			}
			obj = changed
		}
		out = append(out, obj)
	}
	return out, nil
}

// setFlags replaces a component's command line.
func setFlags(obj runtime.Object, flags *cdiv1.Flags) {
	d, ok := obj.(*appsv1.Deployment)
	if !ok || flags == nil {
		return
	}
	wanted := map[string]map[string]string{
		names.DeploymentAPIServer: flags.API, names.DeploymentController: flags.Controller, names.DeploymentUploadProxy: flags.UploadProxy,
	}[d.Name]
	if len(wanted) == 0 {
		return
	}
	var args []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		flag := "--" + strings.TrimLeft(name, "-")
		if value := wanted[name]; value != "" {
			flag += "=" + value
		}
		args = append(args, flag)
	}
	d.Spec.Template.Spec.Containers[0].Args = args
}

func patched(obj runtime.Object, p cdiv1.CustomizeComponentsPatch) (runtime.Object, error) {
	named, err := meta.Accessor(obj)
	if err != nil {
		return nil, fmt.Errorf("customize %T: %w", obj, err)
	}
	if !strings.EqualFold(obj.GetObjectKind().GroupVersionKind().Kind, p.ResourceType) || (p.ResourceName != "*" && named.GetName() != p.ResourceName) {
		return obj, nil
	}
	before, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", p.ResourceType, p.ResourceName, err)
	}
	after, err := change(before, p, obj)
	if err != nil {
		return nil, fmt.Errorf("spec.customizeComponents: the %s patch of %s %s does not apply; correct it: %w", p.Type, p.ResourceType, p.ResourceName, err)
	}
	out, ok := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(runtime.Object)
	if !ok {
		return nil, fmt.Errorf("customize %T: not an object", obj)
	}
	if err := json.Unmarshal(after, out); err != nil {
		return nil, fmt.Errorf("spec.customizeComponents: the patch of %s %s makes no %s; correct it: %w", p.ResourceType, p.ResourceName, p.ResourceType, err)
	}
	return out, nil
}

func change(before []byte, p cdiv1.CustomizeComponentsPatch, like runtime.Object) ([]byte, error) {
	switch p.Type {
	case cdiv1.JSONPatchType:
		operations, err := jsonpatch.DecodePatch([]byte(p.Patch))
		if err != nil {
			return nil, err
		}
		return operations.Apply(before)
	case cdiv1.MergePatchType:
		return jsonpatch.MergePatch(before, []byte(p.Patch))
	case cdiv1.StrategicMergePatchType:
		return strategicpatch.StrategicMergePatch(before, []byte(p.Patch), like)
	}
	return nil, fmt.Errorf("unknown type %q: json, merge or strategic", p.Type)
}
