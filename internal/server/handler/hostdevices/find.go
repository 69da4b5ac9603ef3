// Package hostdevices finds the node's devices that the administrator permits to be passed to guests (KubeVirt's
// spec.configuration.permittedHostDevices): PCI functions bound to vfio-pci, mediated devices and USB devices.
//
// It reads the kernel's own descriptions below a directory that is /sys in production.
package hostdevices

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/handler/devices"
	"virtctl/internal/server/handler/hardware"
)

// maxText bounds what is read of one file of the kernel.
const maxText = 64 << 10

// Finder looks at one node.
type Finder struct {
	// Sys is /sys.
	Sys string
}

// Find gives an offer for each permitted resource whose devices are left to us. A resource without a device on this node is offered
// too: with none.
func (f Finder) Find(permitted *v1.PermittedHostDevices) ([]devices.Offer, error) {
	if permitted == nil {
		return nil, nil
	}
	var offers offers
	if err := f.pci(permitted.PciHostDevices, &offers); err != nil {
		return nil, err
	}
	if err := f.mediated(permitted.MediatedDevices, &offers); err != nil {
		return nil, err
	}
	if err := f.usb(permitted.USB, &offers); err != nil {
		return nil, err
	}
	return offers, nil
}

type offers []devices.Offer

// of gives the offer of a resource; the pointer is good until the next call.
func (o *offers) of(resource, variable string) *devices.Offer {
	i := slices.IndexFunc(*o, func(x devices.Offer) bool { return x.Resource == resource })
	if i < 0 {
		i = len(*o)
		*o = append(*o, devices.Offer{Resource: resource, Variable: variable})
	}
	return &(*o)[i]
}

// pci finds functions that vfio-pci drives. One group of the IOMMU is one pod's: of several functions in it, the first counts.
func (f Finder) pci(permitted []v1.PciHostDevice, found *offers) error {
	addresses, err := names(filepath.Join(f.Sys, "bus/pci/devices"))
	if err != nil {
		return fmt.Errorf("list the node's PCI devices: %w", err)
	}
	groups := map[string]bool{}
	for _, p := range permitted {
		if p.ExternalResourceProvider {
			continue
		}
		offer := found.of(p.ResourceName, hardware.PCIVariable(p.ResourceName))
		for _, address := range addresses {
			dir := filepath.Join(f.Sys, "bus/pci/devices", address)
			about := uevent(dir)
			group := linked(dir, "iommu_group")
			if about["DRIVER"] != "vfio-pci" || !strings.EqualFold(about["PCI_ID"], p.PCIVendorSelector) || group == "" || groups[group] {
				continue
			}
			groups[group] = true
			offer.Units = append(offer.Units, devices.Unit{ID: address, Values: []string{address}, Nodes: vfio(group), NUMA: numa(dir)})
		}
	}
	return nil
}

// mediated finds devices that a driver has made of parts of another, by the name of their type.
func (f Finder) mediated(permitted []v1.MediatedHostDevice, found *offers) error {
	uuids, err := names(filepath.Join(f.Sys, "bus/mdev/devices"))
	if err != nil {
		return fmt.Errorf("list the node's mediated devices: %w", err)
	}
	for _, p := range permitted {
		if p.ExternalResourceProvider {
			continue
		}
		offer := found.of(p.ResourceName, hardware.MDevVariable(p.ResourceName))
		for _, uuid := range uuids {
			dir := filepath.Join(f.Sys, "bus/mdev/devices", uuid)
			group := linked(dir, "iommu_group")
			if group == "" || typeName(dir) != underscored(p.MDEVNameSelector) {
				continue
			}
			offer.Units = append(offer.Units, devices.Unit{ID: uuid, Values: []string{uuid}, Nodes: vfio(group), NUMA: parentNUMA(dir)})
		}
	}
	return nil
}

// usb finds devices by vendor and product. A resource with several selectors is a set: one device of each.
func (f Finder) usb(permitted []v1.USBHostDevice, found *offers) error {
	all, err := f.usbDevices()
	if err != nil {
		return fmt.Errorf("list the node's USB devices: %w", err)
	}
	used := map[string]bool{}
	for _, p := range permitted {
		if p.ExternalResourceProvider || len(p.Selectors) == 0 {
			continue
		}
		offer := found.of(p.ResourceName, hardware.USBVariable(p.ResourceName))
		for {
			set, complete := choose(all, p.Selectors, used)
			if !complete {
				break
			}
			offer.Units = append(offer.Units, set)
		}
	}
	return nil
}

// usbDevice is one device on the bus.
type usbDevice struct {
	vendor, product uint64
	place, node     string
}

func (f Finder) usbDevices() ([]usbDevice, error) {
	entries, err := names(filepath.Join(f.Sys, "bus/usb/devices"))
	if err != nil {
		return nil, err
	}
	var all []usbDevice
	for _, name := range entries {
		about := uevent(filepath.Join(f.Sys, "bus/usb/devices", name))
		if about["DEVTYPE"] != "usb_device" {
			continue // an interface of one
		}
		ids := strings.Split(about["PRODUCT"], "/")
		bus, errBus := strconv.ParseUint(about["BUSNUM"], 10, 16)
		number, errNumber := strconv.ParseUint(about["DEVNUM"], 10, 16)
		if len(ids) != 3 || errBus != nil || errNumber != nil {
			continue
		}
		vendor, errVendor := strconv.ParseUint(ids[0], 16, 16)
		product, errProduct := strconv.ParseUint(ids[1], 16, 16)
		if errVendor != nil || errProduct != nil {
			continue
		}
		all = append(all, usbDevice{
			vendor: vendor, product: product, place: fmt.Sprintf("%d:%d", bus, number), node: fmt.Sprintf("/dev/bus/usb/%03d/%03d", bus, number),
		})
	}
	return all, nil
}

// choose takes one unused device for each selector, or none at all.
func choose(all []usbDevice, selectors []v1.USBSelector, used map[string]bool) (devices.Unit, bool) {
	unit := devices.Unit{NUMA: -1}
	for _, s := range selectors {
		vendor, errVendor := strconv.ParseUint(strings.TrimPrefix(s.Vendor, "0x"), 16, 16)
		product, errProduct := strconv.ParseUint(strings.TrimPrefix(s.Product, "0x"), 16, 16)
		i := slices.IndexFunc(all, func(d usbDevice) bool {
			return errVendor == nil && errProduct == nil && d.vendor == vendor && d.product == product && !used[d.place] && !slices.Contains(unit.Values, d.place)
		})
		if i < 0 {
			return devices.Unit{}, false
		}
		unit.Values, unit.Nodes = append(unit.Values, all[i].place), append(unit.Nodes, all[i].node)
	}
	for _, place := range unit.Values {
		used[place] = true
	}
	unit.ID = strings.ReplaceAll(strings.Join(unit.Values, "+"), ":", "-")
	return unit, true
}

// vfio are the nodes by which a group is used.
func vfio(group string) []string { return []string{"/dev/vfio/vfio", "/dev/vfio/" + group} }

// names lists a directory of the kernel; one that does not exist has none.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

// read gives a short text of the kernel, "" if there is none: devices go at any time.
func read(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func uevent(dir string) map[string]string {
	about := map[string]string{}
	for line := range strings.Lines(read(filepath.Join(dir, "uevent"))) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			about[key] = value
		}
	}
	return about
}

// linked is the last part of what a link in a device's directory points to.
func linked(dir, name string) string {
	to, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return path.Base(to)
}

// typeName is the name that a mediated device's type has for people, or else the type's own.
func typeName(dir string) string {
	if name := read(filepath.Join(dir, "mdev_type/name")); name != "" {
		return underscored(name)
	}
	return linked(dir, "mdev_type")
}

func underscored(name string) string { return strings.ReplaceAll(name, " ", "_") }

// numa is the memory node that a device is near to, -1 when the kernel does not say.
func numa(dir string) int {
	n, err := strconv.Atoi(read(filepath.Join(dir, "numa_node")))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func parentNUMA(dir string) int {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return -1
	}
	return numa(filepath.Dir(real))
}
