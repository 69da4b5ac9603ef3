package vmi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/handler/status"
)

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// keyed are the lists that virt-controller writes to as well, and what tells their elements apart.
var keyed = map[string]string{"conditions": "type", "volumeStatus": "name", "phaseTransitionTimestamps": "phase"}

// tested are the fields that nobody may have changed meanwhile.
var tested = map[string]bool{"phase": true, "nodeName": true}

// patchFor gives the patch from the object to what was observed, nil if there is nothing to write. It names single fields, and
// single elements of lists that have two writers, so that an unrelated change by virt-controller neither gets lost nor gets in
// the way; where order matters, it tests.
func patchFor(vmi *v1.VirtualMachineInstance, o *status.Observed) ([]byte, error) {
	next := vmi.Status.DeepCopy()
	status.Apply(vmi, next, o)
	return patchTo(vmi, next, o.Labels())
}

// patchTo gives the patch to the status and the labels wanted, made only if the tests hold; an empty label is removed.
func patchTo(vmi *v1.VirtualMachineInstance, next *v1.VirtualMachineInstanceStatus, labels map[string]string, tests ...operation) ([]byte, error) {
	before, err := asMap(&vmi.Status)
	if err != nil {
		return nil, err
	}
	after, err := asMap(next)
	if err != nil {
		return nil, err
	}
	ops := append(labelOps(vmi, labels), mapOps("/status", before, after)...)
	if len(ops) == 0 {
		return nil, nil
	}
	return json.Marshal(append(append([]operation{{"test", "/metadata/uid", vmi.UID}}, tests...), ops...))
}

func asMap(s *v1.VirtualMachineInstanceStatus) (map[string]any, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var m map[string]any
	if err := decoder.Decode(&m); err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	return m, nil
}

func mapOps(path string, before, after map[string]any) []operation {
	var ops []operation
	for _, key := range slices.Sorted(maps.Keys(after)) {
		ops = append(ops, valueOps(path, key, before[key], after[key])...)
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[key]; !ok && !empty(before[key]) {
			ops = append(ops, operation{"remove", path + "/" + pointer(key), nil})
		}
	}
	return ops
}

func valueOps(path, key string, old, value any) []operation {
	at := path + "/" + pointer(key)
	if same(old, value) || empty(old) && empty(value) {
		return nil
	}
	// An empty old value may be missing in the stored object, whatever our types make of it.
	if !empty(old) {
		switch v := value.(type) {
		case map[string]any:
			if o, ok := old.(map[string]any); ok {
				return mapOps(at, o, v)
			}
		case []any:
			if o, ok := old.([]any); ok && keyed[key] != "" {
				return listOps(at, keyed[key], o, v)
			}
		}
	}
	ops := []operation{}
	if tested[key] || keyed[key] != "" {
		ops = append(ops, operation{"test", at, orNil(old)})
	}
	return append(ops, operation{"add", at, value})
}

// listOps changes elements where they are, appends new ones, and removes from the end so that positions stay right.
func listOps(path, key string, before, after []any) []operation {
	wanted := map[any]any{}
	for _, v := range after {
		wanted[field(v, key)] = v
	}
	var ops, removals []operation
	known := map[any]bool{}
	for i, old := range before {
		id := field(old, key)
		known[id] = true
		at := path + "/" + strconv.Itoa(i)
		test := operation{"test", at + "/" + key, id}
		next, keep := wanted[id]
		switch {
		case !keep:
			removals = append([]operation{test, {"remove", at, nil}}, removals...)
		case !same(old, next):
			o, _ := old.(map[string]any)
			n, _ := next.(map[string]any)
			ops = append(append(ops, test), mapOps(at, o, n)...)
		}
	}
	for _, v := range after {
		if !known[field(v, key)] {
			ops = append(ops, operation{"add", path + "/-", v})
		}
	}
	// Appending does not move what is removed afterwards.
	return append(ops, removals...)
}

func field(v any, key string) any {
	m, _ := v.(map[string]any)
	return m[key]
}

func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case json.Number:
		return v == "0"
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// orNil makes a test of an empty value one that a missing field passes.
func orNil(v any) any {
	if empty(v) {
		return nil
	}
	return v
}

func pointer(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }

func labelOps(vmi *v1.VirtualMachineInstance, labels map[string]string) []operation {
	var ops []operation
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if vmi.Labels[key] == labels[key] {
			continue
		}
		if labels[key] == "" {
			ops = append(ops, operation{"remove", "/metadata/labels/" + pointer(key), nil})
			continue
		}
		if len(vmi.Labels) == 0 {
			return []operation{{"test", "/metadata/labels", nil}, {"add", "/metadata/labels", labels}}
		}
		ops = append(ops, operation{"add", "/metadata/labels/" + pointer(key), labels[key]})
	}
	return ops
}
