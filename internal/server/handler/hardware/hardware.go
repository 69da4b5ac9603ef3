// Package hardware finds out what of the node a pod was given: its processors, the memory nodes these are on, and the devices that
// device plugins handed out. Everything here reads texts of the kernel or of the launcher's process and is bounded.
package hardware

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/network"
)

// maxCPU is the highest processor number that is believed.
const maxCPU = 8191

// CPUList reads a list like 0-3,8 (cpuset(7)), in ascending order.
func CPUList(text string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		if part == "" {
			continue
		}
		low, high, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(low)
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of processors", text)
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(high); err != nil {
				return nil, fmt.Errorf("%q is not a list of processors", text)
			}
		}
		if first < 0 || last < first || last > maxCPU {
			return nil, fmt.Errorf("%q is not a list of processors", text)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus), nil
}

// Allowed reads from /proc/PID/status the processors that a process may use: those that the node's CPU manager gave the pod.
func Allowed(status []byte) ([]int, error) {
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return CPUList(list)
		}
	}
	return nil, errors.New("the kernel does not say which processors the launcher may use")
}

// NUMA reads the node's memory nodes and their processors from /sys.
func NUMA(sys string) ([]domain.NUMANode, error) {
	dirs, err := filepath.Glob(filepath.Join(sys, "devices/system/node/node[0-9]*"))
	if err != nil {
		return nil, fmt.Errorf("list the node's memory: %w", err)
	}
	var nodes []domain.NUMANode
	for _, dir := range dirs {
		id, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "node"))
		if err != nil {
			continue
		}
		list, err := os.ReadFile(filepath.Join(dir, "cpulist"))
		if err != nil {
			return nil, fmt.Errorf("read the processors of memory node %d: %w", id, err)
		}
		cpus, err := CPUList(string(list))
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, domain.NUMANode{ID: id, CPUs: cpus})
	}
	slices.SortFunc(nodes, func(a, b domain.NUMANode) int { return a.ID - b.ID })
	return nodes, nil
}

// Device plugins tell by the environment what they gave: the resource's name follows these words.
const (
	pciPrefix  = "PCI_RESOURCE_"
	mdevPrefix = "MDEV_PCI_RESOURCE_"
	usbPrefix  = "USB_RESOURCE_"
)

// PCIVariable, MDevVariable and USBVariable are the variables in which a device plugin names what it gave of a resource.
func PCIVariable(resource string) string  { return pciPrefix + variable(resource) }
func MDevVariable(resource string) string { return mdevPrefix + variable(resource) }
func USBVariable(resource string) string  { return usbPrefix + variable(resource) }

// Environment reads /proc/PID/environ.
func Environment(environ []byte) map[string]string {
	env := map[string]string{}
	for entry := range strings.SplitSeq(string(environ), "\x00") {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	return env
}

// variable is a resource's name as device plugins spell it in a variable.
func variable(resource string) string {
	return strings.ToUpper(strings.NewReplacer("/", "_", ".", "_", "-", "_").Replace(resource))
}

// Given says which device each of the VM's GPUs and host devices is, by the device's name in the object. Devices of one resource are
// handed out in the order of the object. What was not given is left out; the domain says so by name.
func Given(vmi *v1.VirtualMachineInstance, env map[string]string) (map[string]domain.HostDevice, error) {
	devices := map[string]domain.HostDevice{}
	left := map[string][]domain.HostDevice{}
	take := func(name, resource string) error {
		if resource == "" {
			return nil // it comes by a resource claim
		}
		if _, known := left[resource]; !known {
			list, err := ofResource(resource, env)
			if err != nil {
				return err
			}
			left[resource] = list
		}
		if list := left[resource]; len(list) > 0 {
			devices[name], left[resource] = list[0], list[1:]
		}
		return nil
	}
	for _, d := range vmi.Spec.Domain.Devices.HostDevices {
		if err := take(d.Name, d.DeviceName); err != nil {
			return nil, err
		}
	}
	for _, d := range vmi.Spec.Domain.Devices.GPUs {
		if err := take(d.Name, d.DeviceName); err != nil {
			return nil, err
		}
	}
	return devices, nil
}

func ofResource(resource string, env map[string]string) ([]domain.HostDevice, error) {
	var out []domain.HostDevice
	name := variable(resource)
	for _, mdev := range words(env[mdevPrefix+name]) {
		out = append(out, domain.HostDevice{MDev: mdev})
	}
	for _, address := range words(env[pciPrefix+name]) {
		out = append(out, domain.HostDevice{PCI: address})
	}
	for _, place := range words(env[usbPrefix+name]) {
		bus, device, ok := strings.Cut(place, ":")
		b, errBus := strconv.ParseUint(bus, 10, 16)
		d, errDevice := strconv.ParseUint(device, 10, 16)
		if !ok || errBus != nil || errDevice != nil {
			return nil, fmt.Errorf("the device plugin of %s named a USB device %q; it should be bus:device", resource, place)
		}
		out = append(out, domain.HostDevice{USB: &domain.USBAddress{Bus: uint(b), Device: uint(d)}})
	}
	return out, nil
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

// SRIOV says which virtual function is behind each SR-IOV interface, from what Multus wrote about the pod's networks.
func SRIOV(vmi *v1.VirtualMachineInstance, status string) (map[string]domain.HostDevice, error) {
	devices := map[string]domain.HostDevice{}
	var links map[string]string
	for _, i := range vmi.Spec.Domain.Devices.Interfaces {
		if i.SRIOV == nil {
			continue
		}
		if links == nil {
			var err error
			if links, err = network.PCIAddresses(status); err != nil {
				return nil, err
			}
		}
		if address := links[network.SecondaryLink(i.Name)]; address != "" {
			devices[i.Name] = domain.HostDevice{PCI: address}
		}
	}
	return devices, nil
}
