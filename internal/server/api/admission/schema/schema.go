// Package schema finds what a JSON object has that its Go type has not: misspelt fields, and values of the wrong kind. The
// types of kubevirt.io/api decode some of their parts themselves and leniently, so that strict decoders do not reach them.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// maxCauses bounds what one object can make us answer.
	maxCauses = 50
	// maxQuantity and maxExponent bound quantities.
	maxQuantity = 64
	maxExponent = 24
)

// Check compares an object with the type of into. Every cause names a field.
func Check(raw []byte, into any) []metav1.StatusCause {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueInvalid, Message: fmt.Sprintf("not JSON: %s", err)}}
	}
	w := &walker{}
	w.value(reflect.TypeOf(into).Elem(), value, "")
	return w.causes
}

type walker struct{ causes []metav1.StatusCause }

func (w *walker) report(kind metav1.CauseType, field, format string, args ...any) {
	if len(w.causes) < maxCauses {
		w.causes = append(w.causes, metav1.StatusCause{Type: kind, Field: field, Message: fmt.Sprintf(format, args...)})
	}
}

func (w *walker) value(t reflect.Type, value any, at string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if value == nil {
		return
	}
	if t == reflect.TypeFor[resource.Quantity]() {
		w.quantity(value, at)
		return
	}
	if opaque(t) {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		w.object(t, value, at)
	case reflect.Map:
		w.mapping(t, value, at)
	case reflect.Slice, reflect.Array:
		w.list(t, value, at)
	case reflect.String:
		if _, ok := value.(string); !ok {
			w.wrong(at, "a string", value)
		}
	case reflect.Bool:
		if _, ok := value.(bool); !ok {
			w.wrong(at, "true or false", value)
		}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		w.integer(t, value, at)
	case reflect.Float32, reflect.Float64:
		if _, ok := value.(json.Number); !ok {
			w.wrong(at, "a number", value)
		}
	}
}

// quantity keeps exponents from us: working with 1e999999999 takes Kubernetes' own arithmetic hours. Nothing between the
// smallest and the largest unit needs such a one.
func (w *walker) quantity(value any, at string) {
	text := ""
	switch v := value.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	default:
		w.wrong(at, "a quantity such as 1Gi", value)
		return
	}
	if !reasonable(text) {
		w.report(metav1.CauseTypeFieldValueInvalid, at, "%s is not a quantity such as 1Gi within reason: %.40s", at, text)
		return
	}
	if _, err := resource.ParseQuantity(text); err != nil {
		w.report(metav1.CauseTypeFieldValueInvalid, at, "%s %q is not a quantity such as 1Gi or 500m", at, text)
	}
}

func reasonable(quantity string) bool {
	if len(quantity) > maxQuantity {
		return false
	}
	_, exponent, found := strings.Cut(strings.ToLower(quantity), "e")
	// "E" and "Ei" are units as well.
	if !found || exponent == "" || exponent == "i" {
		return true
	}
	n, err := strconv.Atoi(exponent)
	return err == nil && n >= -maxExponent && n <= maxExponent
}

func (w *walker) wrong(at, want string, value any) {
	w.report(metav1.CauseTypeFieldValueInvalid, at, "%s must be %s, not %s", at, want, kindOf(value))
}

func (w *walker) integer(t reflect.Type, value any, at string) {
	number, ok := value.(json.Number)
	if !ok {
		w.wrong(at, "a whole number", value)
		return
	}
	if err := json.Unmarshal([]byte(number.String()), reflect.New(t).Interface()); err != nil {
		w.report(metav1.CauseTypeFieldValueInvalid, at, "%s must be a whole number within the range of %s, not %s", at, t.Kind(), number)
	}
}

func (w *walker) object(t reflect.Type, value any, at string) {
	fields, ok := value.(map[string]any)
	if !ok {
		w.wrong(at, "an object", value)
		return
	}
	known := map[string]reflect.Type{}
	collect(t, known)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		below := join(at, name)
		field, ok := known[name]
		if !ok {
			w.report(metav1.CauseTypeFieldValueNotSupported, below, "unknown field %q%s", below, suggestion(name, known))
			continue
		}
		w.value(field, fields[name], below)
	}
}

func (w *walker) mapping(t reflect.Type, value any, at string) {
	entries, ok := value.(map[string]any)
	if !ok {
		w.wrong(at, "an object", value)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		w.value(t.Elem(), entries[name], join(at, name))
	}
}

func (w *walker) list(t reflect.Type, value any, at string) {
	if t.Elem().Kind() == reflect.Uint8 {
		if _, ok := value.(string); !ok {
			w.wrong(at, "a base64 string", value)
		}
		return
	}
	items, ok := value.([]any)
	if !ok {
		w.wrong(at, "a list", value)
		return
	}
	for i, item := range items {
		w.value(t.Elem(), item, fmt.Sprintf("%s[%d]", at, i))
	}
}

// collect gathers the JSON fields of a struct and of the structs embedded in it.
func collect(t reflect.Type, into map[string]reflect.Type) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, rest, _ := strings.Cut(field.Tag.Get("json"), ",")
		inner := field.Type
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case name == "-":
		case name == "" && inner.Kind() == reflect.Struct && (field.Anonymous || strings.Contains(rest, "inline")):
			collect(inner, into)
		case name == "":
			into[field.Name] = field.Type
		default:
			into[name] = field.Type
		}
	}
}

// opaque types decode themselves from something else than their fields. The types of kubevirt.io/api that decode themselves
// only clean up what their fields hold.
func opaque(t reflect.Type) bool {
	if t.Kind() == reflect.Interface {
		return true
	}
	if strings.HasPrefix(t.PkgPath(), "kubevirt.io/api/") {
		return false
	}
	return reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}

// suggestion helps with the commonest mistake, wrong case: Kubernetes' fields are case-sensitive.
func suggestion(name string, known map[string]reflect.Type) string {
	for _, candidate := range slices.Sorted(maps.Keys(known)) {
		if strings.EqualFold(candidate, name) {
			return fmt.Sprintf(", did you mean %q?", candidate)
		}
	}
	return ""
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	default:
		return "an object"
	}
}
