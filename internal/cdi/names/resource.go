package names

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// Longest names: of objects, and of Services and label values.
const (
	maxObject = 253
	maxLabel  = 63
)

// Resource joins two parts of a name by a dash and shortens the first when the whole grows too long, as every CDI does, so that
// other programs find what belongs to a claim.
func Resource(base, suffix string) string { return join(base, suffix, maxObject) }

// Label makes the name of an object usable for a Service or as the value of a label.
func Label(name string) string {
	base := strings.ReplaceAll(name, ".", "-")
	if len(base) <= maxLabel {
		return base
	}
	return join(base, "cdi", maxLabel)
}

// ImporterPod is the importer's pod of a claim.
func ImporterPod(claim string) string { return Resource(ImporterPrefix, claim) }

// UploadPod is the upload server's pod of a claim.
func UploadPod(claim string) string { return Resource(UploadPrefix, claim) }

// UploadService is the upload server's Service of a claim.
func UploadService(claim string) string { return Label(UploadPod(claim)) }

// UploadHost is the name the upload server's certificate has.
func UploadHost(claim, namespace string) string {
	return UploadService(claim) + "." + namespace + ".svc"
}

// UploadURL is where the upload server of a claim listens.
func UploadURL(claim, namespace, path string) string {
	return fmt.Sprintf("https://%s:%d%s", UploadHost(claim, namespace), PortUploadServer, path)
}

func join(base, suffix string, limit int) string {
	name := base + "-" + suffix
	if len(name) <= limit {
		return name
	}
	room := limit - len("-01234567-") - len(suffix)
	if room <= 0 {
		// The second part alone is too long: it goes, and the hash stands for it.
		cut := base[:min(len(base), limit-len("-01234567"))]
		return cut + "-" + hash(name)
	}
	return base[:min(len(base), room)] + "-" + hash(base) + "-" + suffix
}

func hash(s string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return fmt.Sprintf("%08x", h.Sum32())
}
