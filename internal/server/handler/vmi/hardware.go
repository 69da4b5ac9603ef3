package vmi

import (
	"maps"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/network"
	"virtctl/internal/server/handler/hardware"
)

// hardware tells the domain what of the node the pod was given, as far as the object asks for any of it.
func (s *session) hardware(in *domain.Input) error {
	devices := &s.vmi.Spec.Domain.Devices
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
	if len(devices.GPUs) > 0 || len(devices.HostDevices) > 0 {
		environ, err := s.view.Peer.Status("environ")
		if err != nil {
			return err
		}
		given, err := hardware.Given(s.vmi, hardware.Environment(environ))
		if err != nil {
			return err
		}
		maps.Copy(in.HostDevices, given)
	}
	functions, err := hardware.SRIOV(s.vmi, s.pod.Annotations[network.StatusAnnotation])
	if err != nil {
		return err
	}
	maps.Copy(in.HostDevices, functions)
	return nil
}
