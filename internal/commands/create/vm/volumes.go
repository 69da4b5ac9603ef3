package vm

import (
	"errors"
	"fmt"

	kubevirtv1 "kubevirt.io/api/core/v1"

	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/commands/create/params"
)

// errNotInferable says why a volume cannot tell an instance type.
var (
	errNoLabels  = errors.New("inference of instancetype or preference works only with DataSources, DataVolumes or PersistentVolumeClaims")
	errNoLabelDV = errors.New("this DataVolume is not valid to infer an instancetype or preference from (source needs to be PVC, Registry or Snapshot)")
)

// volumes adds the disks in the order in which the machine boots from them if nothing else is said.
func (b *builder) volumes() error {
	v := b.opts.Volumes
	for _, group := range []struct {
		flag  string
		given []string
		add   func(index int, text string) error
	}{
		{"volume-containerdisk", v.ContainerDisks, b.containerDisk},
		{"volume-pvc", v.Claims, b.claim},
		{"volume-datasource", v.DataSources, b.dataSource},
		{"volume-clone-pvc", v.ClonedClaims, b.clonedClaim},
		{"volume-blank", v.Blanks, b.blank},
		{"volume-import", v.Imports, b.imported},
	} {
		for i, text := range group.given {
			if err := group.add(i, text); err != nil {
				return err
			}
		}
	}
	if (v.StorageClass != "" || len(v.AccessModes) > 0) && len(b.vm.Spec.DataVolumeTemplates) == 0 {
		return params.Errorf("storage-class", "--storage-class and --access-mode are about new volumes: add one with --volume-import")
	}
	return nil
}

func (b *builder) containerDisk(index int, text string) error {
	const flag = "volume-containerdisk"
	values, err := params.Parse(flag, text, "src", "name", "bootorder")
	if err != nil {
		return err
	}
	image, err := values.Need("src")
	if err != nil {
		return err
	}
	order, err := values.Count("bootorder")
	if err != nil {
		return err
	}
	name := values.Get("name")
	if name == "" {
		name = fmt.Sprintf("%s-containerdisk-%d", b.vm.Name, index)
	}
	b.inferable[name] = errNoLabels
	return b.addVolume(flag, kubevirtv1.Volume{
		Name: name, VolumeSource: kubevirtv1.VolumeSource{ContainerDisk: &kubevirtv1.ContainerDiskSource{Image: image}},
	}, order)
}

func (b *builder) claim(_ int, text string) error {
	const flag = "volume-pvc"
	values, err := params.Parse(flag, text, "src", "name", "bootorder")
	if err != nil {
		return err
	}
	source, err := values.Need("src")
	if err != nil {
		return err
	}
	namespace, claim, err := params.SplitName(source)
	if err != nil {
		return values.Errorf("src invalid: %w", err)
	}
	if namespace != "" {
		return values.Errorf("not allowed to specify namespace of PersistentVolumeClaim '%s': it must be in the machine's own; clone it with --volume-import type:pvc", claim)
	}
	order, err := values.Count("bootorder")
	if err != nil {
		return err
	}
	name := values.Get("name")
	if name == "" {
		name = claim
	}
	b.inferable[name] = nil
	return b.addVolume(flag, kubevirtv1.Volume{
		Name: name, VolumeSource: kubevirtv1.VolumeSource{PersistentVolumeClaim: &kubevirtv1.PersistentVolumeClaimVolumeSource{
			PersistentVolumeClaimVolumeSource: corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}},
	}, order)
}

func (b *builder) sysprep() error {
	const flag = "volume-sysprep"
	given := b.opts.Volumes.Sysprep
	if len(given) == 0 {
		return nil
	}
	if len(given) > 1 {
		return params.Errorf(flag, "can be given once")
	}
	values, err := params.Parse(flag, given[0], "src", "type")
	if err != nil {
		return err
	}
	source, err := values.Need("src")
	if err != nil {
		return err
	}
	namespace, name, err := params.SplitName(source)
	if err != nil {
		return values.Errorf("src invalid: %w", err)
	}
	if namespace != "" {
		return values.Errorf("not allowed to specify namespace of configmap or secret '%s'", name)
	}
	answer := &kubevirtv1.SysprepSource{}
	switch kind := values.Get("type"); kind {
	case "", "configmap":
		answer.ConfigMap = &corev1.LocalObjectReference{Name: name}
	case "secret":
		answer.Secret = &corev1.LocalObjectReference{Name: name}
	default:
		return values.Errorf("invalid source type %q, supported values are: configmap, secret", kind)
	}
	b.spec.Volumes = append(b.spec.Volumes, kubevirtv1.Volume{Name: "sysprepdisk", VolumeSource: kubevirtv1.VolumeSource{Sysprep: answer}})
	return nil
}
