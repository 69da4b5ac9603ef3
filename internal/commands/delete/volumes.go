package delete

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubevirtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/client"
)

// release makes the volumes of a machine's templates independent of it, so that the garbage collector leaves them.
func release(ctx context.Context, c *client.Client, t client.Target, dryRun bool) error {
	vm, err := c.VMs(t.Namespace).Get(ctx, t.Name)
	if err != nil || dryRun {
		return err
	}
	volumes := client.Of[cdiv1.DataVolume](c, client.Kind{
		Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "DataVolume", Plural: "datavolumes", Singular: "datavolume",
	}, t.Namespace)
	for _, template := range vm.Spec.DataVolumeTemplates {
		volume, err := volumes.Get(ctx, template.Name)
		switch {
		case err == nil:
			patch, err := withoutOwner(volume.OwnerReferences, vm)
			if err != nil {
				return err
			}
			if _, err := volumes.Patch(ctx, template.Name, types.MergePatchType, patch); err != nil {
				return fmt.Errorf("release data volume %s: %w", template.Name, err)
			}
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("read data volume %s: %w", template.Name, err)
		}
		if err := releaseClaim(ctx, c, t.Namespace, template.Name, vm); err != nil {
			return err
		}
	}
	return nil
}

// releaseClaim covers claims whose data volume has been collected already and that belong to the machine themselves.
func releaseClaim(ctx context.Context, c *client.Client, namespace, name string, vm *kubevirtv1.VirtualMachine) error {
	claim, err := c.Claims(namespace).Get(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read claim %s: %w", name, err)
	}
	if !slices.ContainsFunc(claim.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == vm.UID }) {
		return nil
	}
	patch, err := withoutOwner(claim.OwnerReferences, vm)
	if err != nil {
		return err
	}
	if _, err := c.Claims(namespace).Patch(ctx, name, types.MergePatchType, patch); err != nil {
		return fmt.Errorf("release claim %s: %w", name, err)
	}
	return nil
}

func withoutOwner(owners []metav1.OwnerReference, vm *kubevirtv1.VirtualMachine) ([]byte, error) {
	rest := slices.DeleteFunc(slices.Clone(owners), func(o metav1.OwnerReference) bool { return o.UID == vm.UID })
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": rest}})
	if err != nil {
		return nil, fmt.Errorf("encode the owners: %w", err)
	}
	return body, nil
}

// hurry shortens the time that a running guest gets; a machine that does not run needs none.
func (o *Options) hurry(ctx context.Context, c *client.Client, t client.Target) error {
	err := c.Stop(ctx, t.Namespace, t.Name, &kubevirtv1.StopOptions{GracePeriod: &o.GracePeriod})
	if err == nil || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("shorten the grace period: %w", err)
}
