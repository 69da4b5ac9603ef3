// Package capability asks what this process may do.
package capability

import "golang.org/x/sys/unix"

// SysResource tells whether this process has CAP_SYS_RESOURCE. Without it, scores towards the out-of-memory killer cannot be lowered,
// hard limits not be raised, and mounted ext4 file systems not be grown.
func SysResource() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
