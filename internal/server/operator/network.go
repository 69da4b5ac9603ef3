package operator

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/install/components"
)

// networkRetry is how often a network for migrations is looked for that is not there. Its kind comes with Multus, which the cluster may
// not have, so it cannot be watched.
const networkRetry = 10 * time.Second

func networkGVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "k8s.cni.cncf.io", Version: "v1", Kind: "NetworkAttachmentDefinition"}
}

// migrationNetwork gives the network that virt-handler shall be on for migrations. One that does not exist would keep every new virt-handler
// from starting, and so leave its node's machines to themselves: it stays where it is until the network is there, and missing says so.
func (r *Reconciler) migrationNetwork(ctx context.Context, kv *v1.KubeVirt) (network, missing string, err error) {
	m := kv.Spec.Configuration.MigrationConfiguration
	if m == nil || m.Network == nil || *m.Network == "" {
		return "", "", nil
	}
	wanted := client.ObjectKey{Namespace: r.namespace, Name: *m.Network}
	if namespace, name, ok := strings.Cut(*m.Network, "/"); ok {
		wanted = client.ObjectKey{Namespace: namespace, Name: name}
	}
	definition := &metav1.PartialObjectMetadata{}
	definition.SetGroupVersionKind(networkGVK())
	err = r.live.Get(ctx, wanted, definition)
	switch {
	case err == nil:
		return *m.Network, "", nil
	case !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err):
		return "", "", fmt.Errorf("look for the network for migrations: %w", err)
	}
	handler := components.Handler(components.Options{Namespace: r.namespace})
	if _, err := r.get(ctx, handler); err != nil {
		return "", "", fmt.Errorf("look for the network of virt-handler: %w", err)
	}
	now, stays := components.HandlerNetwork(handler), "the pod network"
	if now != "" {
		stays = "network " + now
	}
	return now, fmt.Sprintf("spec.configuration.migrations.network: there is no NetworkAttachmentDefinition %s; migrations stay on %s until it is created", wanted, stays), nil
}
