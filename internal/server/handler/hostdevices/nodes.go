package hostdevices

import (
	"fmt"
	"path/filepath"
	"strings"

	"virtctl/internal/libvirt/domain"
)

// Nodes are the device nodes that QEMU opens for a device that the pod was given. The device's name comes from the pod: it is no path.
func (f Finder) Nodes(d domain.HostDevice) []string {
	bus, name := "pci", d.PCI
	switch {
	case d.USB != nil:
		return []string{fmt.Sprintf("/dev/bus/usb/%03d/%03d", d.USB.Bus, d.USB.Device)}
	case d.MDev != "":
		bus, name = "mdev", d.MDev
	}
	if name == "" || strings.ContainsAny(name, "/\x00") || name == ".." {
		return nil
	}
	group := linked(filepath.Join(f.Sys, "bus", bus, "devices", name), "iommu_group")
	if group == "" {
		return nil
	}
	return vfio(group)
}
