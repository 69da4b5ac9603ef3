package vm

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	kubevirtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/commands/create/params"
)

// importKind is one type of --volume-import.
type importKind struct {
	// keys are its own parameters.
	keys []string
	// unsized kinds know their size from the source.
	unsized bool
	// inferable is nil when labels of the source can tell an instance type.
	inferable error
	fill      func(v params.Values, spec *cdiv1.DataVolumeSpec) error
}

func importKinds() map[string]importKind {
	return map[string]importKind{
		"blank": {inferable: errNoLabelDV, fill: fillBlank},
		"gcs":   {keys: []string{"url", "secretref"}, inferable: errNoLabelDV, fill: fillGCS},
		"http": {
			keys: []string{"url", "certconfigmap", "secretref", "extraheaders", "secretextraheaders"}, inferable: errNoLabelDV, fill: fillHTTP,
		},
		"imageio":  {keys: []string{"url", "diskid", "certconfigmap", "secretref"}, inferable: errNoLabelDV, fill: fillImageIO},
		"pvc":      {keys: []string{"src"}, unsized: true, fill: fillClaim},
		"registry": {keys: []string{"url", "imagestream", "pullmethod", "certconfigmap", "secretref"}, fill: fillRegistry},
		"s3":       {keys: []string{"url", "certconfigmap", "secretref"}, inferable: errNoLabelDV, fill: fillS3},
		"vddk": {
			keys: []string{"url", "uuid", "thumbprint", "secretref", "backingfile", "initimageurl"}, inferable: errNoLabelDV, fill: fillVDDK,
		},
		"snapshot": {keys: []string{"src"}, unsized: true, fill: fillSnapshot},
		"ds":       {keys: []string{"src"}, unsized: true, fill: fillDataSource},
	}
}

// imported reads --volume-import.
func (b *builder) imported(_ int, text string) error {
	const flag = "volume-import"
	kinds := importKinds()
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	kindName := ""
	for _, part := range strings.Split(text, ",") {
		if key, value, _ := strings.Cut(part, ":"); strings.EqualFold(key, "type") {
			kindName = strings.ToLower(value)
		}
	}
	kind, ok := kinds[kindName]
	if !ok {
		return params.Errorf(flag, "invalid or missing type %q, supported values are: %s", kindName, strings.Join(names, ", "))
	}
	values, err := params.Parse(flag, text, append([]string{"type", "name", "size", "bootorder"}, kind.keys...)...)
	if err != nil {
		return err
	}
	name := values.Get("name")
	if name == "" {
		name = "imported-volume-" + rand.String(5)
	}
	return b.dataVolume(flag, name, values, kind)
}

// dataVolume adds a new volume that lives with the machine.
func (b *builder) dataVolume(flag, name string, values params.Values, kind importKind) error {
	size, err := values.Quantity("size")
	if err != nil {
		return err
	}
	if size == nil && !kind.unsized {
		return values.Errorf("size must be specified")
	}
	order, err := values.Count("bootorder")
	if err != nil {
		return err
	}
	template := kubevirtv1.DataVolumeTemplateSpec{ObjectMeta: metav1.ObjectMeta{Name: name}}
	template.Spec.Storage = b.storage(size)
	if err := kind.fill(values, &template.Spec); err != nil {
		return err
	}
	b.inferable[name] = kind.inferable
	err = b.addVolume(flag, kubevirtv1.Volume{
		Name: name, VolumeSource: kubevirtv1.VolumeSource{DataVolume: &kubevirtv1.DataVolumeSource{Name: name}},
	}, order)
	if err != nil {
		return err
	}
	b.vm.Spec.DataVolumeTemplates = append(b.vm.Spec.DataVolumeTemplates, template)
	return nil
}

// storage leaves to the storage profile what is not given.
func (b *builder) storage(size *resource.Quantity) *cdiv1.StorageSpec {
	storage := &cdiv1.StorageSpec{}
	if class := b.opts.Volumes.StorageClass; class != "" {
		storage.StorageClassName = &class
	}
	for _, mode := range b.opts.Volumes.AccessModes {
		storage.AccessModes = append(storage.AccessModes, corev1.PersistentVolumeAccessMode(mode))
	}
	if size != nil {
		storage.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *size}
	}
	return storage
}

func (b *builder) dataSource(_ int, text string) error {
	return b.deprecated("volume-datasource", "ds", text, func(values params.Values, _ int) string {
		_, name, _ := params.SplitName(values.Get("src"))
		return b.vm.Name + "-ds-" + name
	}, 0)
}

func (b *builder) clonedClaim(_ int, text string) error {
	return b.deprecated("volume-clone-pvc", "pvc", text, func(values params.Values, _ int) string {
		_, name, _ := params.SplitName(values.Get("src"))
		return b.vm.Name + "-pvc-" + name
	}, 0)
}

func (b *builder) blank(index int, text string) error {
	return b.deprecated("volume-blank", "blank", text, func(_ params.Values, index int) string {
		return fmt.Sprintf("%s-blank-%d", b.vm.Name, index)
	}, index)
}

// deprecated reads the older flags, which name their type.
func (b *builder) deprecated(flag, kindName, text string, fallback func(params.Values, int) string, index int) error {
	kind := importKinds()[kindName]
	values, err := params.Parse(flag, text, append([]string{"name", "size", "bootorder"}, kind.keys...)...)
	if err != nil {
		return err
	}
	name := values.Get("name")
	if name == "" {
		name = fallback(values, index)
	}
	return b.dataVolume(flag, name, values, kind)
}
