// Package status says what a VirtualMachineInstance's status shall be, from what the node sees of its domain. It is pure.
//
// virt-controller writes other parts of the same status. This package changes only what the node knows and keeps everything else
// as it was.
package status

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/network"
)

// Observed is what the node sees.
type Observed struct {
	Now    time.Time
	Node   string
	PodUID types.UID
	State  wire.State
	// Domain is nil until a domain runs.
	Domain *Domain
	Plan   network.Plan
	// Agent tells that the guest's agent is there; Guest is what it says, nil if it has not said anything.
	Agent bool
	Guest *wire.GuestInfo
	// AgentPending tells that the agent is connected, or about to be in a guest that has just come from another node, and has yet to be
	// asked: what an earlier handler wrote about it stays.
	AgentPending bool
	// HostModel tells that the node knows its host-model CPU; false keeps guests with host-model where they are.
	HostModel bool
	// Plugs is how far hot-plugged volumes are, by name, of those that this reconciliation had to do with.
	Plugs map[string]Plug
	// Launcher is the pod.
	Launcher Launcher
	// Failure is why the domain could not be started.
	Failure error
}

// Plug is how far a hot-plugged volume is.
type Plug struct {
	Phase           v1.VolumePhase
	Reason, Message string
	// Began and Ended are a memory dump's.
	Began, Ended time.Time
}

// Labels is what belongs on the object of a VirtualMachineInstance that runs here.
func (o *Observed) Labels() map[string]string { return map[string]string{v1.NodeNameLabel: o.Node} }

// Apply changes status to what was observed.
func Apply(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus, o *Observed) {
	setPlace(status, o)
	if o.Failure != nil {
		setPhase(status, v1.Scheduled, o.Now)
		setFailure(status, o)
		return
	}
	phase := Phase(vmi, status.Phase, o.State)
	begins := phase == v1.Running && status.Phase != v1.Running
	if begins {
		noteScheduling(status, o.Launcher)
		setPhase(status, v1.Scheduled, o.Now)
	}
	setPhase(status, phase, o.Now)
	if phase != v1.Running {
		removeCondition(status, v1.VirtualMachineInstancePaused)
		removeCondition(status, v1.VirtualMachineInstanceAgentConnected)
		return
	}
	removeFailure(status)
	setLauncher(status, o.Launcher)
	setDomain(vmi, status, o)
	if !o.AgentPending || !hasCondition(status, v1.VirtualMachineInstanceAgentConnected) {
		setInterfaces(vmi, status, o)
		setGuest(vmi, status, o)
	} else {
		setAddresses(vmi, status, o)
	}
	setCredentials(status, o)
	setPaused(status, o)
	setMigratable(vmi, status, o)
	if begins {
		setReady(status, o)
	}
}

func setPlace(status *v1.VirtualMachineInstanceStatus, o *Observed) {
	status.NodeName = o.Node
	if status.ActivePods[o.PodUID] != o.Node {
		pods := map[types.UID]string{o.PodUID: o.Node}
		for uid, node := range status.ActivePods {
			if uid != o.PodUID {
				pods[uid] = node
			}
		}
		status.ActivePods = pods
	}
	status.RuntimeUser = layout.UID
	status.MigrationTransport = v1.MigrationTransportUnix
	if status.SelinuxContext == "" {
		status.SelinuxContext = "none"
	}
}

func setDomain(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus, o *Observed) {
	if o.Domain == nil {
		return
	}
	if o.Domain.Machine != "" {
		status.Machine = &v1.Machine{Type: o.Domain.Machine}
	}
	if o.Domain.Topology.Sockets > 0 {
		topology := o.Domain.Topology
		status.CurrentCPUTopology = &topology
	}
	if status.Memory == nil {
		status.Memory = &v1.MemoryStatus{}
	} else {
		status.Memory = status.Memory.DeepCopy()
	}
	guest := quantity(domain.GuestMemory(vmi))
	if status.Memory.GuestAtBoot == nil {
		status.Memory.GuestAtBoot = guest
	}
	if status.Memory.GuestRequested == nil || o.Domain.GrowsMemory && status.Memory.GuestRequested.Cmp(*guest) < 0 {
		status.Memory.GuestRequested = guest
	}
	current := o.Domain.MemoryBytes
	if o.Domain.GrowsMemory {
		current = status.Memory.GuestAtBoot.Value() + int64(min(o.State.PluggedMemory, 1<<50))
	}
	if current == 0 {
		current = domain.GuestMemory(vmi)
	}
	if status.Memory.GuestCurrent == nil || status.Memory.GuestCurrent.Value() != current {
		status.Memory.GuestCurrent = quantity(current)
	}
	setTargets(vmi, status, o.Domain.Targets)
	setPlugs(status, o)
}

// setPlugs tells how far hot-plugged volumes are, as long as virt-controller has not decided otherwise meanwhile.
func setPlugs(status *v1.VirtualMachineInstanceStatus, o *Observed) {
	for i := range status.VolumeStatus {
		v := &status.VolumeStatus[i]
		p, ok := o.Plugs[v.Name]
		if !ok || v.HotplugVolume == nil || (v.Phase == v1.HotplugVolumeDetaching) != (p.Phase == v1.HotplugVolumeDetaching || p.Phase == v1.HotplugVolumeUnMounted) {
			continue
		}
		v.Phase, v.Reason, v.Message = p.Phase, p.Reason, p.Message
		if p.Phase == v1.HotplugVolumeUnMounted {
			v.Target = ""
		}
		if v.MemoryDumpVolume != nil && !p.Ended.IsZero() {
			began, ended := metav1.NewTime(p.Began), metav1.NewTime(p.Ended)
			info := *v.MemoryDumpVolume
			info.StartTimestamp, info.EndTimestamp = &began, &ended
			v.MemoryDumpVolume = &info
		}
	}
}

// setTargets tells which device each volume is in the guest. virt-controller keeps the list sorted and whole.
func setTargets(vmi *v1.VirtualMachineInstance, status *v1.VirtualMachineInstanceStatus, targets map[string]string) {
	known := make(map[string]bool, len(status.VolumeStatus))
	volumes := make([]v1.VolumeStatus, 0, len(status.VolumeStatus)+len(targets))
	for _, v := range status.VolumeStatus {
		known[v.Name] = true
		if target := targets[v.Name]; target != "" {
			v.Target = target
		}
		volumes = append(volumes, v)
	}
	for _, v := range vmi.Spec.Volumes {
		if target := targets[v.Name]; !known[v.Name] && (target != "" || len(known) == 0) {
			volumes = append(volumes, v1.VolumeStatus{Name: v.Name, Target: target})
		}
	}
	if len(known) == 0 {
		slices.SortFunc(volumes, func(a, b v1.VolumeStatus) int { return strings.Compare(a.Name, b.Name) })
	}
	if len(volumes) > 0 {
		status.VolumeStatus = volumes
	}
}
