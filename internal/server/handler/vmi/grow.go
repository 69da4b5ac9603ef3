package vmi

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/wire"
)

// resized is virt-controller's word that the pod has what a growing guest will use.
const resized = "PodResized"

// grow gives a running guest the processors and the memory that its object names, and sets its links.
func (s *session) grow(ctx context.Context) error {
	if s.view.Peer == nil || s.mem.domain == nil || s.view.State.State != wire.StateRunning {
		return nil
	}
	links := s.linksDiffer()
	if s.may(v1.VirtualMachineInstanceVCPUChange) && s.mem.domain.Topology.Sockets < s.vmi.Spec.Domain.CPU.Sockets {
		count := uint(domain.VCPUs(s.vmi))
		if err := s.view.Peer.Client.SetVcpus(ctx, count); err != nil {
			return fmt.Errorf("plug processors into %s: %w", s.ref.VMI, err)
		}
		s.mem.domain = nil
		ctrl.LoggerFrom(ctx).Info("plugged processors", "vmi", s.ref.VMI, "count", count)
	}
	memory := s.may(v1.VirtualMachineInstanceMemoryChange)
	if !memory && !links {
		return nil
	}
	doc, err := s.view.Peer.Client.DomainXML(ctx, wire.DomainXMLRequest{})
	if err != nil {
		return fmt.Errorf("read the domain of %s: %w", s.ref.VMI, err)
	}
	var changes []string
	if memory {
		device, err := domain.MemoryDevice(doc, s.vmi)
		if err != nil {
			return err
		}
		if device != "" {
			changes = append(changes, device)
		}
	}
	states, err := domain.LinkState(doc, s.vmi)
	if err != nil {
		return err
	}
	for _, change := range append(changes, states...) {
		if err := s.view.Peer.Client.Update(ctx, change); err != nil {
			return fmt.Errorf("change a device of %s: %w", s.ref.VMI, err)
		}
		s.mem.domain = nil
	}
	return nil
}

// may tells that the guest shall grow now.
func (s *session) may(kind v1.VirtualMachineInstanceConditionType) bool {
	return slices.ContainsFunc(s.vmi.Status.Conditions, func(c v1.VirtualMachineInstanceCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue && c.Reason == resized
	})
}

// linksDiffer compares what the domain was last seen with.
func (s *session) linksDiffer() bool {
	for _, i := range s.vmi.Spec.Domain.Devices.Interfaces {
		down, known := s.mem.domain.LinkDown[i.Name]
		if known && i.State != v1.InterfaceStateAbsent && down != (i.State == v1.InterfaceStateLinkDown) {
			return true
		}
	}
	return false
}
