// Package index names the ways in which reconcilers look objects up in the cache, so that none of them lists everything.
package index

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/controller/launcherpod"
)

// Names of the indexes.
const (
	// Owner finds pods and VMIs by the UID of their controller, or Nobody.
	Owner = "controller.uid"
	// Nobody is the Owner of VMIs without a controller.
	Nobody = "nobody"
	// Node finds VMIs by the node they run on.
	Node = "status.nodeName"
	// Claim finds VMIs by the names of the claims they use.
	Claim = "spec.claims"
)

// Add defines the indexes. It must be called before the cache starts.
func Add(ctx context.Context, f client.FieldIndexer) error {
	for _, i := range []struct {
		obj  client.Object
		name string
		of   client.IndexerFunc
	}{
		{&corev1.Pod{}, Owner, ByOwner},
		{&v1.VirtualMachineInstance{}, Owner, ByOwner},
		{&v1.VirtualMachineInstance{}, Node, ByNode},
		{&v1.VirtualMachineInstance{}, Claim, ByClaim},
	} {
		if err := f.IndexField(ctx, i.obj, i.name, i.of); err != nil {
			return fmt.Errorf("index %T by %s: %w", i.obj, i.name, err)
		}
	}
	return nil
}

// ByOwner gives the UID of the object's controller.
func ByOwner(obj client.Object) []string {
	if owner := metav1.GetControllerOf(obj); owner != nil {
		return []string{string(owner.UID)}
	}
	return []string{Nobody}
}

// ByNode gives the node of a VMI.
func ByNode(obj client.Object) []string {
	if vmi, ok := obj.(*v1.VirtualMachineInstance); ok && vmi.Status.NodeName != "" {
		return []string{vmi.Status.NodeName}
	}
	return nil
}

// ByClaim gives the names of the claims a VMI uses.
func ByClaim(obj client.Object) []string {
	vmi, ok := obj.(*v1.VirtualMachineInstance)
	if !ok {
		return nil
	}
	var names []string
	for i := range vmi.Spec.Volumes {
		if name := launcherpod.ClaimName(&vmi.Spec.Volumes[i]); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// OwnedPods lists the pods whose controller has this UID.
func OwnedPods(ctx context.Context, c client.Reader, namespace string, owner types.UID) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{Owner: string(owner)}); err != nil {
		return nil, fmt.Errorf("list the launcher pods in %s: %w", namespace, err)
	}
	return list.Items, nil
}
