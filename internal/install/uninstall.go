package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"virtctl/internal/apply"
)

// ErrWorkloads is why an installation with virtual machines or data volumes is not removed.
var ErrWorkloads = errors.New("virtual machines or data volumes exist")

// Uninstall removes the platform. Virtual machines are removed with it only when removeVMs says so.
func (i *Installer) Uninstall(ctx context.Context, removeVMs bool) error {
	if err := i.findCDI(ctx); err != nil {
		return err
	}
	if !removeVMs {
		if err := i.refuseWorkloads(ctx); err != nil {
			return err
		}
	}
	objects, err := i.installed(ctx)
	if err != nil {
		return err
	}
	if err := i.removeParts(ctx, removeVMs); err != nil {
		return err
	}
	slices.Reverse(objects)
	for _, obj := range objects {
		if obj.GetKind() == "KubeVirt" || obj.GetKind() == "CDI" {
			continue
		}
		result, err := i.applier().Delete(ctx, obj)
		if err != nil {
			return i.explain(err)
		}
		if result == apply.Deleted {
			i.Report(Step{Object: apply.Describe(obj), Result: result})
		}
	}
	if !i.Wait {
		return nil
	}
	return i.gone(ctx)
}

// removeParts takes away what the operators look after, while they still do.
func (i *Installer) removeParts(ctx context.Context, machines bool) error {
	// CDI goes after the machines whose disks are its volumes; without machines, both go at the same time.
	if !machines {
		if err := i.removeCDI(ctx); err != nil {
			return err
		}
	}
	if err := i.removeKubeVirt(ctx, i.dynamic.Resource(KubeVirtResource).Namespace(i.Namespace)); err != nil {
		return err
	}
	if machines {
		if err := i.removeCDI(ctx); err != nil {
			return err
		}
	}
	return i.goneCDI(ctx)
}

func (i *Installer) refuseWorkloads(ctx context.Context) error {
	var names []string
	seen := map[string]bool{}
	resources := []schema.GroupVersionResource{vmResource, vmiResource}
	if i.foreignCDI == "" {
		resources = append(resources, dataVolumeResource)
	}
	for _, resource := range resources {
		list, err := i.dynamic.Resource(resource).List(ctx, metav1.ListOptions{Limit: 10})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return i.explain(fmt.Errorf("look for virtual machines and their disks: %w", err))
		}
		for _, item := range list.Items {
			if name := item.GetNamespace() + "/" + item.GetName(); !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: delete them, or use --delete-vms to remove them and what is on their disks", ErrWorkloads, strings.Join(names, ", "))
}

// installed is what the inventory names, or, without one, what this version would install.
func (i *Installer) installed(ctx context.Context) ([]*unstructured.Unstructured, error) {
	entries, err := i.inventory(ctx)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return i.Objects()
	}
	var out []*unstructured.Unstructured
	for _, e := range entries {
		out = append(out, e.object())
	}
	return out, nil
}

// removeKubeVirt deletes the KubeVirt resource, whose finalizer keeps the operator at work until everything else is gone, and waits for that.
func (i *Installer) removeKubeVirt(ctx context.Context, kubeVirts dynamic.ResourceInterface) error {
	err := kubeVirts.Delete(ctx, kubeVirtName, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return i.explain(fmt.Errorf("delete the KubeVirt resource: %w", err))
	}
	i.Report(Step{Text: "removing virtual machines, definitions and components"})
	last := ""
	err = i.until(ctx, kubeVirts, kubeVirtName, func(kv *unstructured.Unstructured) (bool, error) {
		if kv == nil {
			return true, nil
		}
		if _, message := conditionText(kv, "Progressing"); message != last && strings.HasPrefix(message, "waiting") {
			last = message
			i.Report(Step{Text: message})
		}
		return false, nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("not removed in time: %s; %s: %w", last, i.why(), err)
	}
	return err
}

// gone waits for the namespace, the last thing to go.
func (i *Installer) gone(ctx context.Context) error {
	err := i.until(ctx, i.dynamic.Resource(namespaceResource), i.Namespace, func(ns *unstructured.Unstructured) (bool, error) {
		return ns == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for namespace %s to go: %w", i.Namespace, err)
	}
	return nil
}
