package claim

import (
	"k8s.io/apimachinery/pkg/util/validation"

	"virtctl/internal/cdi/names"
)

// allowedLabel keeps an image from setting labels that are not about virtual machines, that no object can have, or by which CDI
// tells who manages a claim.
func allowedLabel(key, value string) bool {
	return names.Inherited(key) && len(validation.IsQualifiedName(key)) == 0 && len(validation.IsValidLabelValue(value)) == 0
}
