package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"virtctl/internal/drift"
	"virtctl/internal/install/components"
	"virtctl/internal/server/appear"
)

const networkDefinition = "network-attachment-definitions.k8s.cni.cncf.io"

func networkGVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "k8s.cni.cncf.io", Version: "v1", Kind: "NetworkAttachmentDefinition"}
}

// followNetworks looks at the installation again when a network comes or goes: it may be the one for migrations. The kind comes with
// Multus, which the cluster may not have yet.
func followNetworks(mgr ctrl.Manager, c controller.Controller, toKubeVirt handler.EventHandler) error {
	partial, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client for metadata: %w", err)
	}
	// The manager's own cache has only what the operator has installed.
	everything, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return fmt.Errorf("watch for networks: %w", err)
	}
	networks := &appear.Kind{Definition: networkDefinition, Object: drift.Metadata(networkGVK()), Metadata: partial, Cache: everything}
	networks.Follow(c, handler.Funcs{CreateFunc: toKubeVirt.Create, DeleteFunc: toKubeVirt.Delete})
	return errors.Join(mgr.Add(everything), mgr.Add(networks))
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
