package client

import (
	"context"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// Mapper finds the resource of a kind by asking the API server for the kind's group and version only, when it is needed.
//
// client-go's discovery does the same for all groups at once, and brings OpenAPI's protobuf types and the scheme of every Kubernetes
// kind into the binary for it: 3 MiB of memory at the start of every command.
type Mapper struct {
	client *Client

	mu    sync.Mutex
	known map[schema.GroupVersion][]metav1.APIResource
}

// NewMapper makes a mapper. It sends nothing.
func NewMapper(c *Client) *Mapper {
	return &Mapper{client: c, known: map[schema.GroupVersion][]metav1.APIResource{}}
}

// Reset forgets what was found, for after definitions have changed.
func (m *Mapper) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.known)
}

// RESTMapping finds the resource of a kind; the version must be given.
func (m *Mapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	for _, v := range versions {
		gv := schema.GroupVersion{Group: kind.Group, Version: v}
		resources, err := m.resources(gv)
		if err != nil {
			return nil, err
		}
		for _, r := range resources {
			if r.Kind == kind.Kind && !strings.Contains(r.Name, "/") {
				scope := meta.RESTScopeRoot
				if r.Namespaced {
					scope = meta.RESTScopeNamespace
				}
				return &meta.RESTMapping{Resource: gv.WithResource(r.Name), GroupVersionKind: gv.WithKind(kind.Kind), Scope: scope}, nil
			}
		}
	}
	return nil, &meta.NoKindMatchError{GroupKind: kind, SearchedVersions: versions}
}

// resources reads what a group version serves. A group that is not there serves nothing, and may be there the next time.
func (m *Mapper) resources(gv schema.GroupVersion) ([]metav1.APIResource, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if found, ok := m.known[gv]; ok {
		return found, nil
	}
	path := "/apis/" + gv.String()
	if gv.Group == "" {
		path = "/api/" + gv.Version
	}
	body, err := read(m.client.short.Get().AbsPath(path).Do(context.Background()))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the kinds of %s: %w", gv, err)
	}
	list := &metav1.APIResourceList{}
	if err := unmarshal(body, list); err != nil {
		return nil, fmt.Errorf("read the kinds of %s: %w", gv, err)
	}
	m.known[gv] = list.APIResources
	return list.APIResources, nil
}

// KubernetesVersion is the API server's own version.
func (c *Client) KubernetesVersion(ctx context.Context) (*version.Info, error) {
	body, err := read(c.short.Get().AbsPath("/version").Do(ctx))
	if err != nil {
		return nil, err
	}
	info := &version.Info{}
	if err := unmarshal(body, info); err != nil {
		return nil, fmt.Errorf("read the API server's version: %w", err)
	}
	return info, nil
}
