package delete

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// runDisks deletes disks.
func runDisks(ctx context.Context, f *factory.Factory, opts *Options, kind string, wanted []string) error {
	if err := opts.Output.Check(); err != nil {
		return err
	}
	switch {
	case opts.KeepVolumes || opts.GracePeriod != unset:
		return problem.Usagef("--keep-volumes and --grace-period are about machines")
	case opts.Wait && opts.DryRun:
		return problem.Usagef("--wait and --dry-run exclude each other: a dry run changes nothing that could be waited for")
	}
	c, err := f.Client()
	if err != nil {
		return err
	}
	namespace, _, err := f.Namespace()
	if err != nil {
		return err
	}
	if opts.Wait && opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Timeout)
		defer cancel()
	}
	d := &disks{factory: f, client: c, options: opts, namespace: namespace, kind: client.DataVolume()}
	if kind == "pvc" {
		d.kind = c.Claims(namespace).Kind()
	}
	var failed []error
	for _, name := range wanted {
		if err := d.delete(ctx, name); err != nil {
			failed = append(failed, fmt.Errorf("cannot delete %s %s: %w", kind, name, err))
		}
	}
	return problem.Join(f.Streams, f.Program, failed)
}

// disks deletes disks of one kind.
type disks struct {
	factory   *factory.Factory
	client    *client.Client
	options   *Options
	namespace string
	kind      client.Kind
}

func (d *disks) delete(ctx context.Context, name string) error {
	foreground := metav1.DeletePropagationForeground
	options := metav1.DeleteOptions{PropagationPolicy: &foreground}
	if d.options.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	err := client.Of[metav1.PartialObjectMetadata](d.client, d.kind, d.namespace).Delete(ctx, name, options)
	if apierrors.IsNotFound(err) && !problem.IsRouteMissing(err) {
		if d.options.IgnoreNotFound {
			return nil
		}
		return problem.New(problem.NotFound, "there is none of that name in namespace %q; see \"virtctl get disks -n %s\" and \"virtctl get dv -n %s\"", d.namespace, d.namespace, d.namespace)
	}
	if err != nil {
		return err
	}
	text := d.kind.Name(name) + " deleted"
	switch {
	case d.options.DryRun:
		text = d.kind.Name(name) + " would be deleted (dry run: nothing was changed)"
	case d.options.Wait:
		goal, _ := volume.Goals("deleted")
		if err := volume.Until(ctx, d.client, d.namespace, name, goal, func(string) {}); err != nil {
			return err
		}
		text = d.kind.Name(name) + " is gone"
	}
	if d.options.Output.Format == output.Name {
		text = d.kind.Name(name)
	} else if !d.options.Output.IsTable() {
		return nil
	}
	d.factory.Streams.Print("%s\n", text)
	return nil
}
