package launcherpod

import (
	"strconv"
	"strings"

	v1 "kubevirt.io/api/core/v1"
)

// Labels of the contract by which a VM asks for more messages.
const (
	debugLogsLabel    = "debugLogs"
	logVerbosityLabel = "logVerbosity"
	// quietVerbosity is the highest verbosity that leaves libvirt's debug log off (contract).
	quietVerbosity = 5
	// debugFilters is all that libvirt does, without what it says about its own inside.
	debugFilters = "3:remote 4:event 3:util.json 3:util.object 3:rpc 1:*"
)

// libvirtLog are the log filters libvirt shall have, or empty for its warnings alone.
func libvirtLog(in Input) string {
	if filters := in.VMI.Annotations[v1.CustomLibvirtLogFiltersAnnotation]; filters != "" {
		return filters
	}
	verbosity := int(in.Config.LogVerbosity.VirtLauncher)
	if own, err := strconv.Atoi(in.VMI.Labels[logVerbosityLabel]); err == nil {
		verbosity = own
	}
	if verbosity > quietVerbosity || strings.EqualFold(in.VMI.Labels[debugLogsLabel], yes) {
		return debugFilters
	}
	return ""
}
