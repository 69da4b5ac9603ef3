package claims

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
)

func TestWhatAVolumeStandsOn(t *testing.T) {
	claim := func(plugged bool) v1.VolumeSource {
		return v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{
			PersistentVolumeClaimVolumeSource: corev1.PersistentVolumeClaimVolumeSource{ClaimName: "disk"}, Hotpluggable: plugged,
		}}
	}
	data := func(plugged bool) v1.VolumeSource {
		return v1.VolumeSource{DataVolume: &v1.DataVolumeSource{Name: "disk", Hotpluggable: plugged}}
	}
	for _, c := range []struct {
		what      string
		source    v1.VolumeSource
		claim     string
		pluggable bool
	}{
		{"claim", claim(false), "disk", false},
		{"plugged claim", claim(true), "disk", true},
		{"data volume", data(false), "disk", false},
		{"plugged data volume", data(true), "disk", true},
		{"image", v1.VolumeSource{ContainerDisk: &v1.ContainerDiskSource{Image: "disk"}}, "", false},
	} {
		if got := Of(c.source); got != c.claim {
			t.Errorf("%s: claim %q, want %q", c.what, got, c.claim)
		}
		if got := Pluggable(c.source); got != c.pluggable {
			t.Errorf("%s: pluggable %v, want %v", c.what, got, c.pluggable)
		}
	}
}
