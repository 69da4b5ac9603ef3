package domain

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// FieldError says which field of the VirtualMachineInstance cannot be honoured, why, and what to do about it.
type FieldError struct {
	// Field is the path from the object's root, for example spec.domain.devices.disks[0].disk.bus.
	Field string
	// Detail is the reason in plain words.
	Detail string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Detail }

func invalid(path *field.Path, format string, args ...any) error {
	return &FieldError{Field: path.String(), Detail: fmt.Sprintf(format, args...)}
}

// Paths that errors start with.
func specPath() *field.Path    { return field.NewPath("spec") }
func domainPath() *field.Path  { return specPath().Child("domain") }
func devicesPath() *field.Path { return domainPath().Child("devices") }

func annotationPath(name string) *field.Path {
	return field.NewPath("metadata", "annotations").Key(name)
}
