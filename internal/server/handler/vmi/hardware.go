package vmi

import (
	"fmt"
	"maps"
	"os"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/network"
	"virtctl/internal/server/handler/devices"
	"virtctl/internal/server/handler/hardware"
	"virtctl/internal/server/handler/hostdevices"
)

// nodeRoot is where the node's own files are, seen from a container with the node's processes: its devices come and go, those of the
// container are as they were when it started.
const nodeRoot = "/proc/1/root"

// hardware tells the domain what of the node the pod was given, as far as the object asks for any of it.
func (s *session) hardware(in *domain.Input) error {
	if s.vmi.IsCPUDedicated() {
		text, err := s.view.Peer.Status("status")
		if err != nil {
			return err
		}
		if in.CPUSet, err = hardware.Allowed(text); err != nil {
			return err
		}
		if n := s.vmi.Spec.Domain.CPU.NUMA; n != nil && n.GuestMappingPassthrough != nil {
			if in.Host.NUMA, err = hardware.NUMA("/sys"); err != nil {
				return err
			}
		}
	}
	in.HostDevices = map[string]domain.HostDevice{}
	given, err := s.givenDevices()
	if err != nil {
		return err
	}
	maps.Copy(in.HostDevices, given)
	functions, err := hardware.SRIOV(s.vmi, s.pod.Annotations[network.StatusAnnotation])
	if err != nil {
		return err
	}
	maps.Copy(in.HostDevices, functions)
	return nil
}

// givenDevices are the node's devices that device plugins gave the pod, by name.
func (s *session) givenDevices() (map[string]domain.HostDevice, error) {
	if spec := &s.vmi.Spec.Domain.Devices; len(spec.GPUs) == 0 && len(spec.HostDevices) == 0 {
		return nil, nil
	}
	environ, err := s.view.Peer.Status("environ")
	if err != nil {
		return nil, err
	}
	return hardware.Given(s.vmi, hardware.Environment(environ))
}

// giveHostDevices lets the launcher's user open the nodes of the node's devices that the pod was given.
func (s *session) giveHostDevices(root *os.File) error {
	given, err := s.givenDevices()
	if err != nil {
		return err
	}
	for name, device := range given {
		for _, node := range (hostdevices.Finder{Sys: "/sys"}).Nodes(device) {
			if err := devices.Give(root, devices.Device{Name: name, Path: node, On: nodeRoot}, layout.UID); err != nil {
				return fmt.Errorf("give %s (%s) to the launcher: %w", name, node, err)
			}
		}
	}
	return nil
}
