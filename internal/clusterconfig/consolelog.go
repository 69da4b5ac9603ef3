package clusterconfig

import v1 "kubevirt.io/api/core/v1"

// LogsSerialConsole tells whether what a guest writes to its serial port is logged: its own word counts, then the cluster's.
func (c Config) LogsSerialConsole(d *v1.Devices) bool {
	if d.AutoattachSerialConsole != nil && !*d.AutoattachSerialConsole {
		return false
	}
	if d.LogSerialConsole != nil {
		return *d.LogSerialConsole
	}
	return c.Launcher.SerialConsoleLog
}
