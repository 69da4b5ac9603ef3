// Package install knows what an installation is: the objects, the order they are applied in, when they are done, and how they
// are taken away again. It is what `virtctl install`, `uninstall`, `status` and `check` are made of.
package install

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"virtctl/internal/apply"
	"virtctl/internal/client"
)

// FieldManager owns what `virtctl install` applies.
const FieldManager = "virtctl"

// Emulation says how VMs get their processor.
type Emulation string

// The ways. Auto asks the nodes after the node agents have probed them.
const (
	EmulationAuto Emulation = "auto"
	EmulationOn   Emulation = "on"
	EmulationOff  Emulation = "off"
)

// Options is what a user may choose about an installation.
type Options struct {
	Namespace     string
	Registry, Tag string
	PullPolicy    corev1.PullPolicy
	Emulation     Emulation
	// Replicas of the operator; 0 lets the number of nodes decide.
	Replicas int32
	// Wait until every component is ready.
	Wait   bool
	DryRun bool
}

// Step is one line of progress.
type Step struct {
	Object string        `json:"object,omitempty"`
	Result apply.Result  `json:"result,omitempty"`
	Text   string        `json:"text,omitempty"`
	After  time.Duration `json:"-"`
}

// Installer works on one cluster.
type Installer struct {
	Options
	// Report is told about every step as it happens.
	Report func(Step)

	dynamic dynamic.Interface
	client  *client.Client
	mapper  *client.Mapper
	// foreignCDI is the CDI resource of an installation that is not ours.
	foreignCDI string
}

// Kinds the installer reads and watches.
var (
	KubeVirtResource   = schema.GroupVersionResource{Group: "kubevirt.io", Version: "v1", Resource: "kubevirts"}
	crdResource        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	nodeResource       = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	podResource        = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	configMapResource  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	namespaceResource  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	deploymentResource = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	daemonSetResource  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
	vmResource         = schema.GroupVersionResource{Group: "kubevirt.io", Version: "v1", Resource: "virtualmachines"}
	vmiResource        = schema.GroupVersionResource{Group: "kubevirt.io", Version: "v1", Resource: "virtualmachineinstances"}
)

// New makes an installer for the cluster config leads to.
func New(config *rest.Config, opts Options) (*Installer, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	// The API server's warnings about our own objects are no news to the user.
	config.WarningHandler = rest.NoWarnings{}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	own, err := client.New(config)
	if err != nil {
		return nil, err
	}
	return &Installer{
		Options: opts, Report: func(Step) {}, dynamic: dyn, client: own, mapper: client.NewMapper(own),
	}, nil
}

func (i *Installer) applier() *apply.Applier {
	return &apply.Applier{Client: i.dynamic, Mapper: ownKinds{i.mapper}, Manager: FieldManager, DryRun: i.DryRun}
}

// ownKinds knows the KubeVirt and the CDI kind without asking: what the API server says it serves may be a moment behind the definition
// that has just been established.
type ownKinds struct{ *client.Mapper }

// RESTMapping finds the resource of a kind.
func (m ownKinds) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	for _, own := range []meta.RESTMapping{
		{Resource: KubeVirtResource, GroupVersionKind: KubeVirtResource.GroupVersion().WithKind("KubeVirt"), Scope: meta.RESTScopeNamespace},
		{Resource: CDIResource, GroupVersionKind: CDIResource.GroupVersion().WithKind("CDI"), Scope: meta.RESTScopeRoot},
	} {
		if kind == own.GroupVersionKind.GroupKind() {
			return &own, nil
		}
	}
	return m.Mapper.RESTMapping(kind, versions...)
}

// Outcome is what an installation came to.
type Outcome struct {
	Namespace string `json:"namespace"`
	Version   string `json:"version"`
	Changed   int    `json:"changed"`
	// Previous is the tag that was installed before, if another.
	Previous  string        `json:"previous,omitempty"`
	Emulation bool          `json:"emulation"`
	Steps     []Step        `json:"steps"`
	Took      time.Duration `json:"-"`
	Seconds   float64       `json:"seconds"`
}

// Install applies the platform in stages and, unless told otherwise, waits until it is ready. Running it again changes nothing;
// running a newer one upgrades.
func (i *Installer) Install(ctx context.Context) (*Outcome, error) {
	start := time.Now()
	out := &Outcome{Namespace: i.Namespace, Version: i.Tag}
	if err := i.prepare(ctx, out); err != nil {
		return out, err
	}
	stages, err := i.stages()
	if err != nil {
		return out, err
	}
	for _, stage := range stages {
		if err := i.applyStage(ctx, stage, out); err != nil {
			return out, err
		}
	}
	if err := i.recordInventory(ctx, stages); err != nil {
		return out, err
	}
	if i.Wait && !i.DryRun {
		if err := i.await(ctx, out); err != nil {
			return out, err
		}
	}
	out.Took = time.Since(start)
	out.Seconds = out.Took.Seconds()
	return out, nil
}

func (i *Installer) applyStage(ctx context.Context, stage stage, out *Outcome) error {
	for _, obj := range stage.objects {
		_, result, err := i.applier().Apply(ctx, obj)
		if err != nil {
			return i.explain(err)
		}
		step := Step{Object: apply.Describe(obj), Result: result}
		out.Steps = append(out.Steps, step)
		if result != apply.Unchanged {
			out.Changed++
		}
		i.Report(step)
	}
	if stage.settled == nil || i.DryRun {
		return nil
	}
	return stage.settled(ctx)
}

// explain adds what to do to errors a user can meet.
func (i *Installer) explain(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w: installing needs the cluster-admin role; `virtctl check --pre` lists what is missing", err)
	}
	return err
}

// prepare finds out what is there already.
func (i *Installer) prepare(ctx context.Context, out *Outcome) error {
	deployment, err := i.dynamic.Resource(deploymentResource).Namespace(i.Namespace).Get(ctx, "virt-operator", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return i.explain(fmt.Errorf("look for an installation: %w", err))
	}
	if err == nil {
		if deployment.GetLabels()["app.kubernetes.io/part-of"] != "virtctl" {
			return fmt.Errorf("namespace %s holds a virt-operator that virtctl did not install: remove that installation first", i.Namespace)
		}
		if tag := operatorTag(deployment); tag != i.Tag {
			out.Previous = tag
		}
	}
	if err := i.findCDI(ctx); err != nil {
		return err
	}
	if i.Replicas == 0 {
		nodes, err := i.dynamic.Resource(nodeResource).List(ctx, metav1.ListOptions{Limit: 2})
		if err != nil {
			return i.explain(fmt.Errorf("count the nodes: %w", err))
		}
		i.Replicas = int32(max(1, min(len(nodes.Items), 2)))
	}
	if i.Emulation == EmulationAuto && i.storedEmulation(ctx) {
		// An earlier installation found no node with hardware virtualization; keep that until asked otherwise.
		i.Emulation = EmulationOn
	}
	return nil
}

func (i *Installer) storedEmulation(ctx context.Context) bool {
	kv, err := i.dynamic.Resource(KubeVirtResource).Namespace(i.Namespace).Get(ctx, kubeVirtName, metav1.GetOptions{})
	if err != nil {
		return false
	}
	on, _, _ := unstructured.NestedBool(kv.Object, "spec", "configuration", "developerConfiguration", "useEmulation")
	return on
}

func operatorTag(deployment *unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	for _, c := range containers {
		container, ok := c.(map[string]any)
		if !ok {
			continue
		}
		env, _, _ := unstructured.NestedSlice(container, "env")
		for _, e := range env {
			if variable, ok := e.(map[string]any); ok && variable["name"] == "IMAGE_TAG" {
				tag, _ := variable["value"].(string)
				return tag
			}
		}
	}
	return ""
}
