package launcherpod

import (
	"testing"

	v1 "kubevirt.io/api/core/v1"
)

// Whoever looks for a fault asks for libvirt's log in one of these ways; everybody else is spared it.
func TestLibvirtLog(t *testing.T) {
	for _, c := range []struct {
		name        string
		labels      map[string]string
		annotations map[string]string
		cluster     uint
		want        string
	}{
		{name: "not asked for"},
		{name: "debugLogs", labels: map[string]string{"debugLogs": "true"}, want: debugFilters},
		{name: "debugLogs off", labels: map[string]string{"debugLogs": "false"}},
		{name: "verbose VM", labels: map[string]string{"logVerbosity": "10"}, want: debugFilters},
		{name: "less verbose VM", labels: map[string]string{"logVerbosity": "2"}, cluster: 9},
		{name: "verbose cluster", cluster: 9, want: debugFilters},
		{name: "own filters", annotations: map[string]string{"kubevirt.io/libvirt-log-filters": "1:qemu"}, want: "1:qemu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := Input{VMI: &v1.VirtualMachineInstance{}}
			in.VMI.Labels, in.VMI.Annotations = c.labels, c.annotations
			in.Config.LogVerbosity.VirtLauncher = c.cluster
			if got := libvirtLog(in); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
