// Package testapi is an API server in memory: enough of Kubernetes and of the platform for the command line's tests.
package testapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
)

// Object is any object, as JSON has it.
type Object = map[string]any

// store keeps objects and everything that ever happened to them.
type store struct {
	mu      sync.Mutex
	changed *sync.Cond
	version int
	objects map[string]Object
	history []change
	closed  bool
}

type change struct {
	version int
	kind    string
	bucket  string
	object  Object
}

func newStore() *store {
	s := &store{objects: map[string]Object{}}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// key is bucket|namespace|name; the bucket is group/version/resource.
func key(bucket, namespace, name string) string { return bucket + "|" + namespace + "|" + name }

func (s *store) put(bucket string, object Object) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putLocked(bucket, object)
}

func (s *store) putLocked(bucket string, object Object) Object {
	object = clone(object)
	meta := metaOf(object)
	at := key(bucket, text(meta, "namespace"), text(meta, "name"))
	kind := "MODIFIED"
	before, existed := s.objects[at]
	s.version++
	if !existed {
		kind = "ADDED"
		if text(meta, "uid") == "" {
			meta["uid"] = fmt.Sprintf("uid-%d", s.version)
		}
		meta["generation"] = int64(1)
	} else if same(before["spec"], object["spec"]) {
		meta["generation"] = metaOf(before)["generation"]
	} else {
		meta["generation"] = number(metaOf(before)["generation"]) + 1
	}
	meta["resourceVersion"] = strconv.Itoa(s.version)
	s.objects[at] = object
	s.record(kind, bucket, object)
	return clone(object)
}

func (s *store) record(kind, bucket string, object Object) {
	s.history = append(s.history, change{version: s.version, kind: kind, bucket: bucket, object: clone(object)})
	s.changed.Broadcast()
}

func (s *store) get(bucket, namespace, name string) (Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object, ok := s.objects[key(bucket, namespace, name)]
	return clone(object), ok
}

func (s *store) remove(bucket, namespace, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := key(bucket, namespace, name)
	object, ok := s.objects[at]
	if !ok {
		return false
	}
	delete(s.objects, at)
	s.version++
	metaOf(object)["resourceVersion"] = strconv.Itoa(s.version)
	s.record("DELETED", bucket, object)
	return true
}

// selection is what a list or a watch chooses.
type selection struct {
	bucket, namespace, labels, fields string
}

func (q selection) matches(object Object) bool {
	meta := metaOf(object)
	if q.namespace != "" && text(meta, "namespace") != q.namespace {
		return false
	}
	if q.labels != "" {
		selector, err := labels.Parse(q.labels)
		if err != nil {
			return false
		}
		set := labels.Set{}
		if m, ok := meta["labels"].(Object); ok {
			for name, value := range m {
				set[name] = fmt.Sprint(value)
			}
		}
		if !selector.Matches(set) {
			return false
		}
	}
	for _, field := range strings.Split(q.fields, ",") {
		path, want, found := strings.Cut(field, "=")
		if found && lookup(object, strings.Split(path, ".")) != want {
			return false
		}
	}
	return true
}

func (s *store) list(q selection) ([]any, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []any{}
	for _, at := range slices.Sorted(maps.Keys(s.objects)) {
		if object := s.objects[at]; strings.HasPrefix(at, q.bucket+"|") && q.matches(object) {
			items = append(items, clone(object))
		}
	}
	return items, s.version
}

// next waits for the first change after a version that the selection chooses; stopped tells when nobody waits any more.
func (s *store) next(q selection, after int, stopped func() bool) (change, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for _, c := range s.history {
			if c.version > after && c.bucket == q.bucket && q.matches(c.object) {
				return c, true
			}
		}
		if s.closed || stopped() {
			return change{}, false
		}
		s.changed.Wait()
	}
}

func (s *store) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
}

func clone(object Object) Object {
	if object == nil {
		return nil
	}
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	var copied Object
	if err := json.Unmarshal(body, &copied); err != nil {
		panic(err)
	}
	return copied
}

func same(a, b any) bool {
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errLeft == nil && errRight == nil && string(left) == string(right)
}

func metaOf(object Object) Object {
	meta, ok := object["metadata"].(Object)
	if !ok {
		meta = Object{}
		object["metadata"] = meta
	}
	return meta
}

func text(object Object, field string) string {
	value, _ := object[field].(string)
	return value
}

func number(value any) int64 {
	switch n := value.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

func lookup(object Object, path []string) string {
	var at any = object
	for _, field := range path {
		m, ok := at.(Object)
		if !ok {
			return ""
		}
		at = m[field]
	}
	value, _ := at.(string)
	return value
}
