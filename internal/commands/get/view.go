package get

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/watch"

	"virtctl/internal/client"
)

// view is how one kind of object is listed.
type view interface {
	kind() client.Kind
	words() []string
	head(wide bool) []string
	fetch(ctx context.Context, q *query) ([]entry, error)
	follow(ctx context.Context, q *query, show func(entry)) error
}

// column is one column of a table; wide ones are shown with -o wide only.
type column[T any] struct {
	head string
	wide bool
	cell func(object *T, in *facts) string
}

// facts is what columns know besides the object itself.
type facts struct {
	q *query
	// extra is what the view has looked up for all objects together.
	extra any
}

// typed lists the objects of one kind.
type typed[T any] struct {
	what    client.Kind
	names   []string
	columns []column[T]
	// lookUp finds what belongs to the objects; it may be nil.
	lookUp func(ctx context.Context, q *query) any
}

func (v typed[T]) kind() client.Kind { return v.what }
func (v typed[T]) words() []string   { return v.names }

func (v typed[T]) head(wide bool) []string {
	var head []string
	for _, c := range v.columns {
		if wide || !c.wide {
			head = append(head, c.head)
		}
	}
	return head
}

func (v typed[T]) resource(q *query) client.Resource[T] {
	return client.Of[T](q.client, v.what, q.namespace)
}

func (v typed[T]) facts(ctx context.Context, q *query) *facts {
	in := &facts{q: q}
	if v.lookUp != nil {
		in.extra = v.lookUp(ctx, q)
	}
	return in
}

func (v typed[T]) entry(object *T, in *facts) entry {
	e := entry{object: object}
	if m, err := meta.Accessor(object); err == nil {
		e.namespace, e.name, e.labels = m.GetNamespace(), m.GetName(), m.GetLabels()
	}
	for _, c := range v.columns {
		if in.q.wide || !c.wide {
			e.cells = append(e.cells, c.cell(object, in))
		}
	}
	return e
}

func (v typed[T]) fetch(ctx context.Context, q *query) ([]entry, error) {
	var objects []*T
	if len(q.names) > 0 {
		for _, name := range q.names {
			object, err := v.resource(q).Get(ctx, name)
			if err != nil {
				return nil, err
			}
			objects = append(objects, object)
		}
	} else {
		list, err := v.resource(q).List(ctx, client.ListOptions{LabelSelector: q.selector})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
	}
	in := v.facts(ctx, q)
	entries := make([]entry, 0, len(objects))
	for _, object := range objects {
		entries = append(entries, v.entry(object, in))
	}
	return entries, nil
}

func (v typed[T]) follow(ctx context.Context, q *query, show func(entry)) error {
	return v.resource(q).Follow(ctx, client.ListOptions{LabelSelector: q.selector}, func(e client.Event[T]) (bool, error) {
		if e.Type == watch.Bookmark {
			return false, nil
		}
		q.now = time.Now()
		one := v.entry(e.Object, v.facts(ctx, q))
		if len(q.names) == 0 || slices.Contains(q.names, one.name) {
			show(one)
		}
		return false, nil
	})
}
