package clusterconfig

import (
	"testing"

	v1 "kubevirt.io/api/core/v1"
)

// A guest's secrets on its console must not reach a log that its owner has switched off.
func TestLogsSerialConsole(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		name    string
		cluster bool
		devices v1.Devices
		want    bool
	}{
		{"as the cluster says", true, v1.Devices{}, true},
		{"as the cluster says not", false, v1.Devices{}, false},
		{"the VM says no", true, v1.Devices{LogSerialConsole: &no}, false},
		{"the VM says yes", false, v1.Devices{LogSerialConsole: &yes}, true},
		{"no serial port", true, v1.Devices{LogSerialConsole: &yes, AutoattachSerialConsole: &no}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Config{Launcher: Launcher{SerialConsoleLog: c.cluster}}
			if got := config.LogsSerialConsole(&c.devices); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
