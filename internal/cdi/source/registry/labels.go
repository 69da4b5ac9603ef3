package registry

import (
	"regexp"
	"strings"
)

// maxLabels bounds what an image may say about itself.
const maxLabels = 32

var (
	labelName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?/[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$`)
)

// LabelsOf makes labels of an image's environment, as CDI does: INSTANCETYPE_KUBEVIRT_IO_DEFAULT_PREFERENCE=fedora becomes
// instancetype.kubevirt.io/default-preference=fedora. What could be no label is left out.
func LabelsOf(env []string) map[string]string {
	labels := map[string]string{}
	for _, line := range env {
		key, value, ok := strings.Cut(line, "=")
		before, after, found := strings.Cut(key, "KUBEVIRT_IO_")
		if !ok || !found {
			continue
		}
		label := "kubevirt.io/" + strings.ReplaceAll(after, "_", "-")
		if domain := strings.TrimSuffix(before, "_"); domain != "" {
			label = strings.ReplaceAll(domain, "_", ".") + "." + label
		}
		label = strings.ToLower(label)
		if labelName.MatchString(label) && labelValue.MatchString(value) && len(labels) < maxLabels {
			labels[label] = value
		}
	}
	return labels
}
