package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"virtctl/internal/crds"
	cdi "virtctl/internal/install/components/cdi"
)

// CDIResource is what the data importer's operator reconciles.
var CDIResource = schema.GroupVersionResource{Group: "cdi.kubevirt.io", Version: "v1beta1", Resource: "cdis"}

var dataVolumeResource = schema.GroupVersionResource{Group: "cdi.kubevirt.io", Version: "v1beta1", Resource: "datavolumes"}

const cdiName = "cdi"

// cdi is the resource cdi-operator reconciles. Nothing is chosen in it: everything stays the user's to change.
func (i *Installer) cdi() *unstructured.Unstructured {
	return mark(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": CDIResource.GroupVersion().String(), "kind": "CDI",
		"metadata": map[string]any{"name": cdiName},
		"spec":     map[string]any{},
	}})
}

// storage adds CDI to the stages, unless the cluster has one that virtctl did not install: that one is used as it is.
func (i *Installer) storage(stages []stage) ([]stage, error) {
	if i.foreignCDI != "" {
		return stages, nil
	}
	definition, err := crds.CDI()
	if err != nil {
		return nil, err
	}
	bootstrap, err := marked(cdi.Bootstrap(cdi.Options{
		Namespace: i.Namespace, Registry: i.Registry, Tag: i.Tag, PullPolicy: i.PullPolicy,
		Replicas: map[string]int32{}, Verbosity: 2,
	}))
	if err != nil {
		return nil, err
	}
	stages[0].objects = append(stages[0].objects, mark(definition))
	stages[1].objects = append(stages[1].objects, bootstrap...)
	stages[2].objects = append(stages[2].objects, i.cdi())
	return stages, nil
}

// findCDI looks for a CDI that virtctl did not install.
func (i *Installer) findCDI(ctx context.Context) error {
	list, err := i.dynamic.Resource(CDIResource).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return i.explain(fmt.Errorf("look for a data importer: %w", err))
	}
	foreign := ""
	for k := range list.Items {
		if list.Items[k].GetLabels()["app.kubernetes.io/managed-by"] == managedBy {
			return nil
		}
		foreign = list.Items[k].GetName()
	}
	if foreign == "" {
		return nil
	}
	// What virtctl installed once stays virtctl's, whatever became of its labels.
	before, err := i.inventory(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(before, func(e entry) bool { return e.Kind == "CDI" }) {
		i.foreignCDI = foreign
	}
	return nil
}

// awaitCDI follows the CDI resource until its operator says that this very version is ready.
func (i *Installer) awaitCDI(ctx context.Context) error {
	if i.foreignCDI != "" {
		i.Report(Step{Text: "the cluster has a data importer already (CDI " + i.foreignCDI + "): it is used as it is"})
		return nil
	}
	last := "cdi-operator is starting"
	err := i.until(ctx, i.dynamic.Resource(CDIResource), cdiName, func(c *unstructured.Unstructured) (bool, error) {
		if c == nil {
			return false, fmt.Errorf("the CDI resource %s was deleted while it was being installed", cdiName)
		}
		observed, _, _ := unstructured.NestedString(c.Object, "status", "observedVersion")
		if hasTag(observed, i.Tag) && condition(c, "Available") == "True" && condition(c, "Degraded") != "True" {
			return true, nil
		}
		i.progress(c, &last)
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the data importer is not ready in time: %s; %s: %w", last, i.why(), err)
	}
	return err
}

// progress tells the user what an operator says it is waiting for, when that is news.
func (i *Installer) progress(obj *unstructured.Unstructured, last *string) {
	for _, kind := range []string{"Degraded", "Progressing"} {
		if status, message := conditionText(obj, kind); status == "True" && message != *last {
			*last = message
			i.Report(Step{Text: message})
			return
		}
	}
}

// removeCDI begins to take the data importer away. Its finalizer keeps the operator at work until everything else of it is gone.
func (i *Installer) removeCDI(ctx context.Context) error {
	if i.foreignCDI != "" {
		return nil
	}
	err := i.dynamic.Resource(CDIResource).Delete(ctx, cdiName, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return i.explain(fmt.Errorf("delete the CDI resource: %w", err))
	}
	i.Report(Step{Text: "removing the data importer and its volumes"})
	return nil
}

// goneCDI waits for the data importer to go.
func (i *Installer) goneCDI(ctx context.Context) error {
	if i.foreignCDI != "" {
		return nil
	}
	resource := i.dynamic.Resource(CDIResource)
	last := ""
	err := i.until(ctx, resource, cdiName, func(c *unstructured.Unstructured) (bool, error) {
		if _, message := conditionText(c, "Progressing"); c != nil && message != last && strings.HasPrefix(message, "waiting") {
			last = message
			i.Report(Step{Text: message})
		}
		return c == nil, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the data importer was not removed in time: %s; %s: %w", last, i.why(), err)
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Storage is the state of the data importer.
type Storage struct {
	Name    string `json:"name"`
	Phase   string `json:"phase,omitempty"`
	Version string `json:"version,omitempty"`
	// Foreign tells that virtctl did not install it.
	Foreign bool   `json:"foreign,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}

// storageStatus reads the data importer's state; a platform installed by an older virtctl has none.
func (i *Installer) storageStatus(ctx context.Context) (*Storage, error) {
	list, err := i.dynamic.Resource(CDIResource).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return &Storage{Trouble: "no data importer: run `virtctl install` to add it"}, nil
	}
	if err != nil {
		return nil, i.explain(fmt.Errorf("read the CDI resource: %w", err))
	}
	if len(list.Items) == 0 {
		return &Storage{Trouble: "no data importer: run `virtctl install` to add it"}, nil
	}
	c := &list.Items[0]
	out := &Storage{Name: c.GetName(), Foreign: c.GetLabels()["app.kubernetes.io/managed-by"] != managedBy}
	out.Phase, _, _ = unstructured.NestedString(c.Object, "status", "phase")
	out.Version, _, _ = unstructured.NestedString(c.Object, "status", "observedVersion")
	if status, message := conditionText(c, "Degraded"); status == "True" {
		out.Trouble = message
	} else if status, message := conditionText(c, "Available"); status != "True" {
		out.Trouble = "not available: " + message
	}
	return out, nil
}

func (i *Installer) storageExisting(ctx context.Context) Check {
	err := i.findCDI(ctx)
	switch {
	case err != nil:
		return Check{Name: "data importer", Verdict: Warned, Detail: err.Error()}
	case i.foreignCDI != "":
		return Check{
			Name: "data importer", Verdict: Warned, Detail: "CDI " + i.foreignCDI + " was not installed by virtctl and is used as it is",
			Cure: "uploads through the API server and resuming need virtctl's own: remove that one first to get it",
		}
	}
	return Check{Name: "data importer", Verdict: Passed, Detail: "installed with the platform"}
}
