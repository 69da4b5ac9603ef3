package datavolume

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// A missing source is named in CDI's words, and by its namespace only where that is another one.
func TestSeen(t *testing.T) {
	p := &pass{dv: &cdi.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "copy"}}}
	for namespace, want := range map[string]string{"lab": "disk", "golden": "golden/disk"} {
		if got := p.seen(namespace, "disk"); got != want {
			t.Errorf("disk in %s is called %s, not %s", namespace, got, want)
		}
	}
}
