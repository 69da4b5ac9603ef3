// Package params reads the "key:value,key:value" lists that flags of the create commands take.
package params

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"virtctl/internal/commands/problem"
)

// Values are the parameters of one use of a flag.
type Values struct {
	flag   string
	values map[string]string
}

// Parse reads a list. A value may contain colons, but no comma.
func Parse(flag, text string, known ...string) (Values, error) {
	v := Values{flag: flag, values: map[string]string{}}
	var unknown []string
	for _, part := range strings.Split(text, ",") {
		key, value, found := strings.Cut(part, ":")
		if !found {
			return v, v.Errorf("params need to have at least one colon: %s", part)
		}
		key = strings.ToLower(strings.TrimSpace(key))
		if _, twice := v.values[key]; twice {
			return v, v.Errorf("param %q was specified multiple times", key)
		}
		if !slices.Contains(known, key) {
			unknown = append(unknown, part)
		}
		v.values[key] = strings.TrimSpace(value)
	}
	if len(unknown) > 0 {
		return v, v.Errorf("unknown param(s): %s; known are %s", strings.Join(unknown, ","), strings.Join(known, ", "))
	}
	return v, nil
}

// Errorf makes an error about the flag.
func (v Values) Errorf(format string, args ...any) error { return Errorf(v.flag, format, args...) }

// Errorf makes an error about a flag.
func Errorf(flag, format string, args ...any) error {
	return problem.Usagef("failed to parse \"--%s\" flag: %w", flag, fmt.Errorf(format, args...))
}

// Get gives a parameter's value, or "".
func (v Values) Get(key string) string { return v.values[key] }

// Need gives a parameter's value, which must be there.
func (v Values) Need(key string) (string, error) {
	if v.values[key] == "" {
		return "", v.Errorf("%s must be specified", key)
	}
	return v.values[key], nil
}

// Pointer gives a parameter's value, or nil.
func (v Values) Pointer(key string) *string {
	if value, ok := v.values[key]; ok && value != "" {
		return &value
	}
	return nil
}

// List gives the parts of a parameter's value, which are separated by semicolons.
func (v Values) List(key string) []string {
	if v.values[key] == "" {
		return nil
	}
	return strings.Split(v.values[key], ";")
}

// Quantity gives a parameter's value as a quantity, or nil.
func (v Values) Quantity(key string) (*resource.Quantity, error) {
	if v.values[key] == "" {
		return nil, nil
	}
	quantity, err := resource.ParseQuantity(v.values[key])
	if err != nil {
		return nil, v.Errorf("%s %q is not a size such as 10Gi: %w", key, v.values[key], err)
	}
	if quantity.Sign() <= 0 {
		return nil, v.Errorf("%s must be greater than 0", key)
	}
	return &quantity, nil
}

// Count gives a parameter's value as a number greater than zero, or nil.
func (v Values) Count(key string) (*uint, error) {
	if v.values[key] == "" {
		return nil, nil
	}
	number, err := strconv.ParseUint(v.values[key], 10, 32)
	if err != nil {
		return nil, v.Errorf("%s %q is not a number", key, v.values[key])
	}
	if number == 0 {
		return nil, v.Errorf("%s must be greater than 0", key)
	}
	count := uint(number)
	return &count, nil
}

// SplitName reads NAME or NAMESPACE/NAME.
func SplitName(text string) (namespace, name string, err error) {
	parts := strings.Split(text, "/")
	switch {
	case len(parts) == 1 && parts[0] != "":
		return "", parts[0], nil
	case len(parts) == 2 && parts[0] != "" && parts[1] != "":
		return parts[0], parts[1], nil
	case len(parts) > 2:
		return "", "", fmt.Errorf("invalid count %d of slashes in prefix/name %q", len(parts)-1, text)
	}
	return "", "", fmt.Errorf("name cannot be empty in %q", text)
}
