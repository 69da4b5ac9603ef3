package claim

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// allowedLabel keeps an image from setting labels that are not about virtual machines, or that no object can have.
func allowedLabel(key, value string) bool {
	domain, _, found := strings.Cut(key, "/")
	if !found || domain != "kubevirt.io" && !strings.HasSuffix(domain, ".kubevirt.io") {
		return false
	}
	return len(validation.IsQualifiedName(key)) == 0 && len(validation.IsValidLabelValue(value)) == 0
}
