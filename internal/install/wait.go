package install

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// until watches one object until done says so. A missing object is passed as nil.
func (i *Installer) until(ctx context.Context, resource dynamic.ResourceInterface, name string, done func(*unstructured.Unstructured) (bool, error)) error {
	for {
		finished, err := watchOnce(ctx, resource, name, done)
		if finished || err != nil {
			return err
		}
	}
}

func watchOnce(ctx context.Context, resource dynamic.ResourceInterface, name string, done func(*unstructured.Unstructured) (bool, error)) (bool, error) {
	only := metav1.ListOptions{FieldSelector: "metadata.name=" + name}
	list, err := resource.List(ctx, only)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	var now *unstructured.Unstructured
	if len(list.Items) > 0 {
		now = &list.Items[0]
	}
	if ok, err := done(now); ok || err != nil {
		return ok, err
	}
	only.ResourceVersion = list.GetResourceVersion()
	events, err := resource.Watch(ctx, only)
	if err != nil {
		return false, fmt.Errorf("watch %s: %w", name, err)
	}
	defer events.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open := <-events.ResultChan():
			if !open {
				return false, nil
			}
			ok, err := seen(event, done)
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				return false, nil
			}
			if ok || err != nil {
				return ok, err
			}
		}
	}
}

func seen(event watch.Event, done func(*unstructured.Unstructured) (bool, error)) (bool, error) {
	if event.Type == watch.Error {
		return false, apierrors.FromObject(event.Object)
	}
	obj, ok := event.Object.(*unstructured.Unstructured)
	if !ok || event.Type == watch.Bookmark {
		return false, nil
	}
	if event.Type == watch.Deleted {
		obj = nil
	}
	return done(obj)
}

func condition(obj *unstructured.Unstructured, kind string) string {
	status, _ := conditionText(obj, kind)
	return status
}

func conditionText(obj *unstructured.Unstructured, kind string) (status, message string) {
	if obj == nil {
		return "", ""
	}
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == kind {
			status, _ = m["status"].(string)
			message, _ = m["message"].(string)
			return status, message
		}
	}
	return "", ""
}

// await follows the KubeVirt resource until the operator says that this very version is ready.
func (i *Installer) await(ctx context.Context, out *Outcome) error {
	if err := i.awaitReady(ctx); err != nil {
		return err
	}
	if err := i.awaitCDI(ctx); err != nil {
		return err
	}
	if i.Emulation == EmulationAuto {
		works, err := i.anyNodeVirtualizes(ctx)
		if err != nil {
			return err
		}
		if !works {
			i.Emulation = EmulationOn
			i.Report(Step{Text: "no node has working hardware virtualization: VMs are emulated (slow); see --emulation"})
			if err := i.applyStage(ctx, stage{objects: []*unstructured.Unstructured{i.kubeVirt()}}, out); err != nil {
				return err
			}
		}
	}
	out.Emulation = i.Emulation == EmulationOn
	return nil
}

func (i *Installer) awaitReady(ctx context.Context) error {
	last := "the operator is starting"
	err := i.until(ctx, i.dynamic.Resource(KubeVirtResource).Namespace(i.Namespace), kubeVirtName, func(kv *unstructured.Unstructured) (bool, error) {
		if kv == nil {
			return false, fmt.Errorf("the KubeVirt resource %s/%s was deleted while it was being installed", i.Namespace, kubeVirtName)
		}
		if i.ready(kv) {
			return true, nil
		}
		i.progress(kv, &last)
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("not ready in time: %s; %s: %w", last, i.why(), err)
	}
	return err
}

// ready tells whether the operator has seen this specification, runs this version and finds everything available.
func (i *Installer) ready(kv *unstructured.Unstructured) bool {
	observed, _, _ := unstructured.NestedInt64(kv.Object, "status", "observedGeneration")
	running, _, _ := unstructured.NestedString(kv.Object, "status", "observedKubeVirtVersion")
	return observed >= kv.GetGeneration() && hasTag(running, i.Tag) && condition(kv, "Available") == "True" && condition(kv, "Degraded") != "True"
}

// hasTag matches "v1.9.0+virtctl.0.1.0 (TAG)".
func hasTag(running, tag string) bool {
	suffix := "(" + tag + ")"
	return len(running) >= len(suffix) && running[len(running)-len(suffix):] == suffix
}

// anyNodeVirtualizes tells whether a node offers the device its agent found to work.
func (i *Installer) anyNodeVirtualizes(ctx context.Context) (bool, error) {
	nodes, err := i.dynamic.Resource(nodeResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("read the nodes: %w", err)
	}
	for _, node := range nodes.Items {
		count, found, _ := unstructured.NestedString(node.Object, "status", "allocatable", "devices.kubevirt.io/kvm")
		if found && count != "0" {
			return true, nil
		}
	}
	return false, nil
}
