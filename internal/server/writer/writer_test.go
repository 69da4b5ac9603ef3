package writer

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func setup(t *testing.T) (client.WithWatch, *Writer, *corev1.ConfigMap) {
	t.Helper()
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "c", UID: "u", Finalizers: []string{"test/held"}}}).Build()
	obj := &corev1.ConfigMap{}
	if err := c.Get(context.Background(), client.ObjectKey{Namespace: "n", Name: "c"}, obj); err != nil {
		t.Fatal(err)
	}
	return c, New(c), obj
}

func patch(t *testing.T, w *Writer, from *corev1.ConfigMap, change func(*corev1.ConfigMap)) (*corev1.ConfigMap, bool) {
	t.Helper()
	after := from.DeepCopy()
	change(after)
	wrote, err := w.Patch(context.Background(), from, after)
	if err != nil {
		t.Fatal(err)
	}
	return after, wrote
}

func value(v string) func(*corev1.ConfigMap) {
	return func(c *corev1.ConfigMap) { c.Data = map[string]string{"v": v} }
}

// A copy we have already written from is old; its successor is not; nothing is written without a difference.
func TestStale(t *testing.T) {
	_, w, first := setup(t)
	if _, wrote := patch(t, w, first, func(*corev1.ConfigMap) {}); wrote || w.Stale(first) {
		t.Error("a write without a difference")
	}
	second, wrote := patch(t, w, first, value("1"))
	if !wrote || !w.Stale(first) || w.Stale(second) {
		t.Errorf("wrote %v; old copy stale %v; new copy stale %v", wrote, w.Stale(first), w.Stale(second))
	}
	// Two writes in one pass: both of their copies are old.
	third, _ := patch(t, w, second, value("2"))
	fourth, _ := patch(t, w, third, value("3"))
	if !w.Stale(second) || !w.Stale(third) || w.Stale(fourth) {
		t.Error("after two writes in a row")
	}
	w.Forget(client.ObjectKeyFromObject(first))
	if len(w.wrote) != 0 {
		t.Error("memory of an object that is gone")
	}
}

// Nothing newer is overwritten, and that is no error: the newer object brings another pass.
func TestConflict(t *testing.T) {
	c, w, old := setup(t)
	newer := old.DeepCopy()
	value("theirs")(newer)
	if err := c.Update(context.Background(), newer); err != nil {
		t.Fatal(err)
	}
	if _, wrote := patch(t, w, old, value("ours")); wrote || w.Stale(old) {
		t.Error("a conflict counts as written")
	}
	got := &corev1.ConfigMap{}
	if err := c.Get(context.Background(), client.ObjectKeyFromObject(old), got); err != nil || got.Data["v"] != "theirs" {
		t.Errorf("%v %v", got.Data, err)
	}
}

// The write that lets an object go is not repeated.
func TestLastFinalizer(t *testing.T) {
	c, w, obj := setup(t)
	if err := c.Delete(context.Background(), obj); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(context.Background(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
	if _, wrote := patch(t, w, obj, func(c *corev1.ConfigMap) { c.Finalizers = nil }); !wrote || !w.Stale(obj) {
		t.Errorf("wrote %v, stale %v", wrote, w.Stale(obj))
	}
	if _, wrote := patch(t, w, obj, func(c *corev1.ConfigMap) { c.Finalizers = nil }); wrote {
		t.Error("an object that is gone was written")
	}
}

func TestError(t *testing.T) {
	c, _, obj := setup(t)
	broken := errors.New("connection refused")
	w := New(interceptor.NewClient(c, interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return broken
		},
	}))
	after := obj.DeepCopy()
	value("x")(after)
	if _, err := w.Patch(context.Background(), obj, after); !errors.Is(err, broken) || w.Stale(obj) {
		t.Errorf("error %v, stale %v", err, w.Stale(obj))
	}
}
