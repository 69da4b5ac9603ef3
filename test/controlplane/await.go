package controlplane

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// patience is how long anything may take; a test that needs it has failed.
const patience = time.Minute

// Watching finds one object by watching its kind.
type Watching struct {
	Client          client.WithWatch
	List            client.ObjectList
	Namespace, Name string
}

// Await watches until the object satisfies the condition, which what names, and gives it.
func Await[T client.Object](t testing.TB, of Watching, what string, ok func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w, err := of.Client.Watch(ctx, of.List, client.InNamespace(of.Namespace), client.MatchingFields{"metadata.name": of.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var last T
	for e := range w.ResultChan() {
		obj, is := e.Object.(T)
		if !is || e.Type == watch.Deleted {
			continue
		}
		last = obj
		if ok(obj) {
			return obj
		}
	}
	text, _ := json.MarshalIndent(last, "", " ")
	t.Fatalf("%s: %s did not happen; last seen: %s", of.Name, what, text)
	return last
}

// AwaitRenewals lets some time pass, measured in renewals of the leader's lease, which come every two seconds.
func AwaitRenewals(t testing.TB, c client.WithWatch, namespace string, count int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w, err := c.Watch(ctx, &coordinationv1.LeaseList{}, client.InNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type != watch.Modified {
			continue
		}
		if count--; count == 0 {
			return
		}
	}
	t.Fatal("the leader does not renew its lease")
}
