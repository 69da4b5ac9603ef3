// Package hotplug sends requests about volumes of running machines. The commands addvolume and removevolume use it.
package hotplug

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kubevirtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Options are the flags that both commands have.
type Options struct {
	Volume string
	DryRun bool
}

// Bind adds the flags.
func (o *Options) Bind(f *factory.Factory, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.Volume, "volume-name", "", "Name of the data volume or claim")
	flags.BoolVar(&o.DryRun, "dry-run", false, "Let the server check the request without carrying it out")
	flags.Bool("persist", true, "")
	_ = flags.MarkDeprecated("persist", "changes are always kept in the virtual machine")
	_ = cmd.MarkFlagRequired("volume-name")
	_ = cmd.RegisterFlagCompletionFunc("volume-name", target.CompleteClaims(f))
}

// Send puts a request to the virtual machine, or to a machine instance that belongs to none.
func Send(ctx context.Context, c *client.Client, t client.Target, subresource string, options any) (client.Target, error) {
	vm := client.VM(t.Namespace, t.Name)
	err := c.Put(ctx, vm, subresource, options)
	if err == nil || !apierrors.IsNotFound(err) || problem.IsRouteMissing(err) {
		return vm, err
	}
	vmi := client.VMI(t.Namespace, t.Name)
	return vmi, c.Put(ctx, vmi, subresource, options)
}

// Source finds out whether a name is a data volume or a claim.
func Source(ctx context.Context, c *client.Client, namespace, name string) (*kubevirtv1.HotplugVolumeSource, error) {
	volumes := client.Of[cdiv1.DataVolume](c, client.Kind{
		Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "DataVolume", Plural: "datavolumes", Singular: "datavolume",
	}, namespace)
	_, err := volumes.Get(ctx, name)
	switch {
	case err == nil:
		return &kubevirtv1.HotplugVolumeSource{DataVolume: &kubevirtv1.DataVolumeSource{Name: name, Hotpluggable: true}}, nil
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("look up data volume %s: %w", name, err)
	}
	_, err = c.Claims(namespace).Get(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, problem.New(problem.NotFound, "Volume %s is not a DataVolume or PersistentVolumeClaim of namespace %q; see \"virtctl get pvcs\"", name, namespace)
	case err != nil:
		return nil, fmt.Errorf("look up claim %s: %w", name, err)
	}
	claim := &kubevirtv1.PersistentVolumeClaimVolumeSource{Hotpluggable: true}
	claim.ClaimName = name
	return &kubevirtv1.HotplugVolumeSource{PersistentVolumeClaim: claim}, nil
}

// Prepare gives what both commands need.
func Prepare(f *factory.Factory, name string) (*client.Client, client.Target, error) {
	namespace, _, err := f.Namespace()
	if err != nil {
		return nil, client.Target{}, err
	}
	t, err := target.ParseOne(target.VMI, namespace, name)
	if err != nil {
		return nil, t, err
	}
	c, err := f.Client()
	return c, t, err
}
