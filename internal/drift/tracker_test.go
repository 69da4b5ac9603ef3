package drift

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	k8stesting "k8s.io/client-go/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"virtctl/internal/apply"
)

func tracker(t *testing.T) (tr *Tracker, server *dynamicfake.FakeDynamicClient, cache client.Client) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"Secret", "ConfigMap"} {
		mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: kind}, meta.RESTScopeNamespace)
	}
	server, cache = dynamicfake.NewSimpleDynamicClient(scheme), crfake.NewClientBuilder().WithScheme(scheme).Build()
	// The fake does not know server-side apply.
	server.PrependReactor("patch", "*", func(action k8stesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(k8stesting.PatchAction)
		if !ok {
			return false, nil, nil
		}
		u := &unstructured.Unstructured{}
		err := u.UnmarshalJSON(patch.GetPatch())
		u.SetUID("uid")
		u.SetResourceVersion("1")
		return true, u, err
	})
	return &Tracker{Applier: apply.Applier{Client: server, Mapper: mapper, Manager: "test"}, Reader: cache}, server, cache
}

func object(kind, name, content string) client.Object {
	of, at := metav1.TypeMeta{APIVersion: "v1", Kind: kind}, metav1.ObjectMeta{Namespace: "ns", Name: name}
	if kind == "Secret" {
		return &corev1.Secret{TypeMeta: of, ObjectMeta: at, Data: map[string][]byte{"tls.crt": []byte(content)}}
	}
	return &corev1.ConfigMap{TypeMeta: of, ObjectMeta: at, Data: map[string]string{"ca": content}}
}

// writes counts what reached the API server.
func writes(server *dynamicfake.FakeDynamicClient) (n int) {
	for _, a := range server.Actions() {
		if a.GetVerb() != "get" {
			n++
		}
	}
	return n
}

func TestDeletedObjects(t *testing.T) {
	for kind, comesBack := range map[string]bool{"ConfigMap": true, "Secret": false} {
		t.Run(kind, func(t *testing.T) {
			tr, server, cache := tracker(t)
			wanted := object(kind, "it", "one")
			if err := tr.ApplyAll(context.Background(), []runtime.Object{wanted}); err != nil {
				t.Fatal(err)
			}
			// Whoever reads now finds it; then it is deleted, and the cache knows: it never had it.
			if err := cache.Get(context.Background(), client.ObjectKeyFromObject(wanted), object(kind, "it", "")); !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
			before := writes(server)
			err := tr.ApplyAll(context.Background(), []runtime.Object{wanted})
			if comesBack {
				if err != nil || writes(server) == before {
					t.Fatalf("%v, %d writes: it was not brought back", err, writes(server)-before)
				}
				return
			}
			if !apierrors.IsConflict(err) || writes(server) != before {
				t.Fatalf("%v, %d writes: a deleted key must not come back", err, writes(server)-before)
			}
			// Read again, made anew.
			if err := tr.ApplyAll(context.Background(), []runtime.Object{object(kind, "it", "two")}); err != nil || writes(server) == before {
				t.Fatalf("%v, %d writes: the new one was not written", err, writes(server)-before)
			}
		})
	}
}
