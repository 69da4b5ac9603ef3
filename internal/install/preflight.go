package install

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Verdict of one check.
type Verdict string

// The verdicts. Warnings do not stop an installation.
const (
	Passed Verdict = "ok"
	Warned Verdict = "warning"
	Failed Verdict = "failed"
)

// Check is one finding of the preflight.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	// Cure says what to do about it.
	Cure string `json:"cure,omitempty"`
}

// minimums: image volumes are on by default from Kubernetes 1.35 and need these runtimes.
const (
	minKubernetes = "1.35"
	minContainerd = "2.1"
	minCRIO       = "1.31"
)

// Preflight finds out whether the platform can be installed and VMs can run.
func (i *Installer) Preflight(ctx context.Context) ([]Check, error) {
	version, err := i.client.KubernetesVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	checks := []Check{kubernetesCheck(version.GitVersion)}
	permissions, err := i.permissions(ctx)
	if err != nil {
		return nil, err
	}
	checks = append(checks, permissions)
	nodes, err := i.dynamic.Resource(nodeResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return append(checks, Check{Name: "nodes", Verdict: Failed, Detail: err.Error(), Cure: "use credentials that may list nodes"}), nil
	}
	for k := range nodes.Items {
		checks = append(checks, runtimeCheck(&nodes.Items[k]))
	}
	checks = append(checks, i.storageCheck(ctx), i.existingCheck(ctx), i.storageExisting(ctx))
	return checks, nil
}

func kubernetesCheck(version string) Check {
	c := Check{Name: "kubernetes", Verdict: Passed, Detail: version}
	if !atLeast(version, minKubernetes) {
		c.Verdict = Failed
		c.Cure = "upgrade to Kubernetes " + minKubernetes + " or newer: container disks are image volumes, which are on by default from there"
	}
	return c
}

// needed is what an installation does first, so that a missing permission is known before anything is half made.
var needed = []struct{ group, resource, verb string }{
	{"", "namespaces", "create"},
	{"apiextensions.k8s.io", "customresourcedefinitions", "create"},
	{"rbac.authorization.k8s.io", "clusterroles", "create"},
	{"rbac.authorization.k8s.io", "clusterroles", "escalate"},
	{"rbac.authorization.k8s.io", "clusterrolebindings", "create"},
	{"scheduling.k8s.io", "priorityclasses", "create"},
	{"apps", "deployments", "create"},
}

func (i *Installer) permissions(ctx context.Context) (Check, error) {
	reviews := i.dynamic.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"})
	var missing []string
	for _, n := range needed {
		review := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
			"spec": map[string]any{"resourceAttributes": map[string]any{"group": n.group, "resource": n.resource, "verb": n.verb}},
		}}
		answer, err := reviews.Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return Check{}, fmt.Errorf("ask for permissions: %w", err)
		}
		if allowed, _, _ := unstructured.NestedBool(answer.Object, "status", "allowed"); !allowed {
			missing = append(missing, strings.TrimSuffix(n.verb+" "+n.resource+"."+n.group, "."))
		}
	}
	if len(missing) > 0 {
		return Check{
			Name: "permissions", Verdict: Failed, Detail: "missing: " + strings.Join(missing, ", "),
			Cure: "use credentials bound to the cluster-admin role",
		}, nil
	}
	return Check{Name: "permissions", Verdict: Passed, Detail: "everything an installation needs"}, nil
}

func runtimeCheck(node *unstructured.Unstructured) Check {
	runtime, _, _ := unstructured.NestedString(node.Object, "status", "nodeInfo", "containerRuntimeVersion")
	arch, _, _ := unstructured.NestedString(node.Object, "status", "nodeInfo", "architecture")
	c := Check{Name: "node " + node.GetName(), Verdict: Passed, Detail: runtime + ", " + arch}
	name, version, _ := strings.Cut(runtime, "://")
	minimum, known := map[string]string{"containerd": minContainerd, "cri-o": minCRIO}[name]
	switch {
	case !known:
		c.Verdict, c.Cure = Warned, "only containerd and CRI-O are known to mount images as volumes"
	case !atLeast(version, minimum):
		c.Verdict, c.Cure = Failed, fmt.Sprintf("upgrade %s to %s or newer: older ones cannot mount images as volumes", name, minimum)
	case arch != "amd64":
		c.Verdict, c.Cure = Warned, "VMs are tested on amd64 only"
	}
	return c
}

func (i *Installer) storageCheck(ctx context.Context) Check {
	classes, err := i.dynamic.Resource(schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"}).List(ctx, metav1.ListOptions{})
	if err != nil {
		return Check{Name: "storage", Verdict: Warned, Detail: err.Error()}
	}
	for _, class := range classes.Items {
		if class.GetAnnotations()["storageclass.kubernetes.io/is-default-class"] == "true" {
			return Check{Name: "storage", Verdict: Passed, Detail: "default class " + class.GetName()}
		}
	}
	return Check{
		Name: "storage", Verdict: Warned, Detail: fmt.Sprintf("%d storage classes, none is the default", len(classes.Items)),
		Cure: "VMs with claims must name a storage class; container disks and empty disks work without",
	}
}

func (i *Installer) existingCheck(ctx context.Context) Check {
	list, err := i.dynamic.Resource(KubeVirtResource).List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return Check{Name: "installation", Verdict: Passed, Detail: "none yet"}
	}
	kv := list.Items[0]
	if kv.GetLabels()["app.kubernetes.io/managed-by"] != managedBy {
		return Check{
			Name: "installation", Verdict: Failed, Detail: fmt.Sprintf("KubeVirt %s/%s was not installed by virtctl", kv.GetNamespace(), kv.GetName()),
			Cure: "remove that installation first",
		}
	}
	return Check{Name: "installation", Verdict: Passed, Detail: "by virtctl in namespace " + kv.GetNamespace() + "; installing again upgrades it"}
}

var majorMinor = regexp.MustCompile(`(\d+)\.(\d+)`)

// atLeast compares major and minor numbers; a version without them is too old.
func atLeast(version, minimum string) bool {
	have, want := majorMinor.FindStringSubmatch(version), majorMinor.FindStringSubmatch(minimum)
	if have == nil || want == nil {
		return false
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	if number(have[1]) != number(want[1]) {
		return number(have[1]) > number(want[1])
	}
	return number(have[2]) >= number(want[2])
}

// kvmReport is what `virt-launcher probe` leaves as a pod's termination message.
type kvmReport struct {
	KVM    bool   `json:"kvm"`
	Reason string `json:"reason"`
}

func parseKVMReport(message string) (kvmReport, error) {
	var r kvmReport
	err := json.Unmarshal([]byte(message), &r)
	return r, err
}
