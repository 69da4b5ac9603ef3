package operand

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crfake "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"virtctl/internal/apply"
)

type deleted []string

func (d *deleted) Delete(_ context.Context, u *unstructured.Unstructured) error {
	*d = append(*d, apply.Describe(u))
	return nil
}

func named(name, owner string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "kubevirt", Labels: map[string]string{"by": owner}}
}

func cluster(t *testing.T, objects ...client.Object) (Set, *deleted) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, rbacv1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	d := &deleted{}
	c := crfake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	return Set{Client: c, Deleter: d, Label: client.MatchingLabels{"by": "us"}}, d
}

func kinds() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		{Version: "v1", Kind: "Secret"}, DefinitionGVK(), {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"},
	}
}

func want(t *testing.T, got *deleted, names ...string) {
	t.Helper()
	if !slices.Equal(*got, names) {
		t.Errorf("deleted %q, want %q", *got, names)
	}
}

// Were a component gone before the last object of a user, that object's finalizer would keep the platform from ever going.
func TestNothingGoesBeforeTheLastDefinition(t *testing.T) {
	going := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{
		Name: "going.x", Labels: map[string]string{"by": "us"}, Finalizers: []string{"f"}, DeletionTimestamp: new(metav1.Now()),
	}}
	fresh := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "fresh.x", Labels: map[string]string{"by": "us"}}}
	s, d := cluster(t, going, fresh, &corev1.Secret{ObjectMeta: named("certs", "us")})
	if err := s.Remove(t.Context(), kinds()); !errors.Is(err, ErrWaiting) {
		t.Errorf("%v, want that it waits", err)
	}
	want(t, d, "CustomResourceDefinition.apiextensions.k8s.io fresh.x")
}

// A definition that the API server has given up on would keep an uninstall for minutes.
func TestDefinitionThatStaysIsLookedAfter(t *testing.T) {
	crd := func(name string, age time.Duration, annotations map[string]string) *apiextensionsv1.CustomResourceDefinition {
		return &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"by": "us"}, Annotations: annotations, Finalizers: []string{"f"},
			DeletionTimestamp: new(metav1.NewTime(time.Now().Add(-age))),
		}}
	}
	justNow := time.Now().UTC().Format(time.RFC3339)
	s, d := cluster(t, crd("young.x", time.Second, nil), crd("old.x", time.Minute, nil),
		crd("again.x", time.Minute, map[string]string{lookedAfter: time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)}),
		crd("told.x", time.Minute, map[string]string{lookedAfter: justNow}))
	before := annotations(t, s)
	if err := s.Remove(t.Context(), kinds()); !errors.Is(err, ErrWaiting) {
		t.Errorf("%v, want that it waits", err)
	}
	want(t, d)
	after := annotations(t, s)
	for name, written := range map[string]bool{"young.x": false, "old.x": true, "again.x": true, "told.x": false} {
		if (before[name] != after[name]) != written {
			t.Errorf("%s: annotation %q became %q, want it written: %v", name, before[name], after[name], written)
		}
	}
}

func annotations(t *testing.T, s Set) map[string]string {
	t.Helper()
	definitions, err := s.list(t.Context(), DefinitionGVK())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for i := range definitions {
		out[definitions[i].Name] = definitions[i].Annotations[lookedAfter]
	}
	return out
}

// What virtctl or somebody else made is not the operator's to delete.
func TestOnlyOursGo(t *testing.T) {
	s, d := cluster(t, &corev1.Secret{ObjectMeta: named("certs", "us")}, &corev1.Secret{ObjectMeta: named("bootstrap", "virtctl")},
		&rbacv1.Role{ObjectMeta: named("role", "us")})
	if err := s.Remove(t.Context(), kinds()); err != nil {
		t.Fatal(err)
	}
	want(t, d, "Secret kubevirt/certs", "Role.rbac.authorization.k8s.io kubevirt/role")
}

// An upgrade that dropped a definition would delete users' objects.
func TestPruneKeepsWhatIsWantedAndEveryDefinition(t *testing.T) {
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "old.x", Labels: map[string]string{"by": "us"}}}
	s, d := cluster(t, crd, &rbacv1.Role{ObjectMeta: named("kept", "us")}, &rbacv1.Role{ObjectMeta: named("old", "us")})
	wanted := &rbacv1.Role{TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"}, ObjectMeta: named("kept", "us")}
	if err := s.Prune(t.Context(), kinds(), []runtime.Object{wanted}); err != nil {
		t.Fatal(err)
	}
	want(t, d, "Role.rbac.authorization.k8s.io kubevirt/old")
}
