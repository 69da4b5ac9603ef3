// Package autoattach gives machines the devices that they need not name.
package autoattach

import (
	"fmt"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// PodNetwork connects a machine that names no network to the pod network.
func PodNetwork(spec *v1.VirtualMachineInstanceSpec, cluster clusterconfig.Config) error {
	if a := spec.Domain.Devices.AutoattachPodInterface; a != nil && !*a {
		return nil
	}
	if len(spec.Networks) > 0 || len(spec.Domain.Devices.Interfaces) > 0 {
		return nil
	}
	var nic *v1.Interface
	switch binding := v1.NetworkInterfaceType(cluster.Network.DefaultBinding); binding {
	case v1.BridgeInterface:
		if !cluster.Network.PermitBridgeOnPodNetwork {
			return fmt.Errorf("bridge interface is not enabled in kubevirt-config: name an interface in spec.domain.devices.interfaces," +
				" or have spec.configuration.network of the KubeVirt object changed")
		}
		nic = v1.DefaultBridgeNetworkInterface()
	case v1.MasqueradeInterface:
		nic = v1.DefaultMasqueradeNetworkInterface()
	default:
		return fmt.Errorf("the cluster's default network interface %q is not supported: have"+
			" spec.configuration.network.defaultNetworkInterface of the KubeVirt object set to bridge or masquerade", binding)
	}
	spec.Domain.Devices.Interfaces = []v1.Interface{*nic}
	spec.Networks = []v1.Network{*v1.DefaultPodNetwork()}
	return nil
}

// VolumeDisks gives every volume that no device uses a disk.
func VolumeDisks(spec *v1.VirtualMachineInstanceSpec) {
	used := map[string]bool{}
	for _, d := range spec.Domain.Devices.Disks {
		used[d.Name] = true
	}
	for _, f := range spec.Domain.Devices.Filesystems {
		used[f.Name] = true
	}
	for _, v := range spec.Volumes {
		// These are not disks of the guest.
		if used[v.Name] || v.DownwardMetrics != nil || v.MemoryDump != nil || v.ContainerPath != nil {
			continue
		}
		used[v.Name] = true
		spec.Domain.Devices.Disks = append(spec.Domain.Devices.Disks, v1.Disk{Name: v.Name})
	}
}

// inputDevice is the name of the input device that a machine need not name (contract).
const inputDevice = "default-0"

// InputDevice gives a machine that asks for one, and names none, an input device. Of which kind is left to preferences and defaults.
func InputDevice(spec *v1.VirtualMachineInstanceSpec) {
	d := &spec.Domain.Devices
	if d.AutoattachInputDevice != nil && *d.AutoattachInputDevice && len(d.Inputs) == 0 {
		d.Inputs = []v1.Input{{Name: inputDevice}}
	}
}
