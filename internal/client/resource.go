package client

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	sigsjson "sigs.k8s.io/json"
)

// Resource reads and writes the objects of one kind in one namespace ("" is all namespaces).
type Resource[T any] struct {
	client    *Client
	kind      Kind
	namespace string
}

// Of gives access to a kind whose objects decode into T.
func Of[T any](c *Client, kind Kind, namespace string) Resource[T] {
	return Resource[T]{client: c, kind: kind, namespace: namespace}
}

// List is a list of objects with its metadata.
type List[T any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []T `json:"items"`
}

// ListOptions choose objects.
type ListOptions struct {
	LabelSelector   string
	FieldSelector   string
	ResourceVersion string
}

// Named chooses the one object with this name.
func Named(name string) ListOptions { return ListOptions{FieldSelector: "metadata.name=" + name} }

// Kind says what the objects are.
func (r Resource[T]) Kind() Kind { return r.kind }

// Get reads one object.
func (r Resource[T]) Get(ctx context.Context, name string) (*T, error) {
	return decode[T](r.client.short.Get().AbsPath(r.kind.path(r.namespace), name).Do(ctx), r.kind)
}

// List reads all objects that the options choose.
func (r Resource[T]) List(ctx context.Context, opts ListOptions) (*List[T], error) {
	list := &List[T]{}
	body, err := read(r.selected(r.client.short.Get(), opts).Do(ctx))
	if err != nil {
		return nil, err
	}
	if err := unmarshal(body, list); err != nil {
		return nil, fmt.Errorf("read the list of %s: %w", r.kind.Plural, err)
	}
	for i := range list.Items {
		setKind(&list.Items[i], r.kind)
	}
	return list, nil
}

// Create stores a new object and returns it as stored.
func (r Resource[T]) Create(ctx context.Context, obj *T, dryRun bool) (*T, error) {
	return r.send(ctx, r.client.short.Post().AbsPath(r.kind.path(r.namespace)), obj, dryRun)
}

// Update replaces an object and returns it as stored.
func (r Resource[T]) Update(ctx context.Context, name string, obj *T) (*T, error) {
	return r.send(ctx, r.client.short.Put().AbsPath(r.kind.path(r.namespace), name), obj, false)
}

// Patch changes an object and returns it as stored.
func (r Resource[T]) Patch(ctx context.Context, name string, kind types.PatchType, patch []byte) (*T, error) {
	req := r.client.short.Patch(kind).AbsPath(r.kind.path(r.namespace), name).Body(patch)
	return decode[T](req.Do(ctx), r.kind)
}

// Apply brings an object to the server by server-side apply as the given field manager.
func (r Resource[T]) Apply(ctx context.Context, name string, obj any, opts ApplyOptions) (*T, error) {
	body, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.kind.Name(name), err)
	}
	req := r.client.short.Patch(types.ApplyPatchType).AbsPath(r.kind.path(r.namespace), name).
		Param("fieldManager", opts.Manager).Body(body)
	if opts.Force {
		req.Param("force", "true")
	}
	return decode[T](dry(req, opts.DryRun).Do(ctx), r.kind)
}

// ApplyOptions say how to apply.
type ApplyOptions struct {
	Manager string
	Force   bool
	DryRun  bool
}

// Delete asks for the removal of one object.
func (r Resource[T]) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	opts.TypeMeta = metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}
	body, err := json.Marshal(opts)
	if err != nil {
		return fmt.Errorf("encode the options for deleting %s: %w", r.kind.Name(name), err)
	}
	_, err = read(r.client.short.Delete().AbsPath(r.kind.path(r.namespace), name).
		SetHeader("Content-Type", "application/json").Body(body).Do(ctx))
	return err
}

func (r Resource[T]) send(ctx context.Context, req *rest.Request, obj *T, dryRun bool) (*T, error) {
	setKind(obj, r.kind)
	body, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.kind.Singular, err)
	}
	return decode[T](dry(req.SetHeader("Content-Type", "application/json").Body(body), dryRun).Do(ctx), r.kind)
}

func (r Resource[T]) selected(req *rest.Request, opts ListOptions) *rest.Request {
	req = req.AbsPath(r.kind.path(r.namespace))
	for name, value := range map[string]string{
		"labelSelector": opts.LabelSelector, "fieldSelector": opts.FieldSelector, "resourceVersion": opts.ResourceVersion,
	} {
		if value != "" {
			req = req.Param(name, value)
		}
	}
	return req
}

func dry(req *rest.Request, dryRun bool) *rest.Request {
	if dryRun {
		return req.Param("dryRun", metav1.DryRunAll)
	}
	return req
}

func read(result rest.Result) ([]byte, error) {
	if err := result.Error(); err != nil {
		return nil, err
	}
	return result.Raw()
}

func decode[T any](result rest.Result, kind Kind) (*T, error) {
	body, err := read(result)
	if err != nil {
		return nil, err
	}
	obj := new(T)
	if err := unmarshal(body, obj); err != nil {
		return nil, fmt.Errorf("read the server's answer as %s: %w", kind.Kind, err)
	}
	setKind(obj, kind)
	return obj, nil
}

func unmarshal(body []byte, into any) error {
	return sigsjson.UnmarshalCaseSensitivePreserveInts(body, into)
}

// setKind fills in what list items and watch events leave out, so that printed objects are complete.
func setKind(obj any, kind Kind) {
	if typed, ok := obj.(interface {
		SetGroupVersionKind(schema.GroupVersionKind)
	}); ok {
		typed.SetGroupVersionKind(schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind})
	}
}
