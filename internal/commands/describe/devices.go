package describe

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"
)

func (p *page) volumes() error {
	spec := p.spec()
	disks := map[string]kubevirtv1.Disk{}
	for _, d := range spec.Domain.Devices.Disks {
		disks[d.Name] = d
	}
	status := map[string]kubevirtv1.VolumeStatus{}
	if p.machine.vmi != nil {
		for _, s := range p.machine.vmi.Status.VolumeStatus {
			status[s.Name] = s
		}
	}
	var rows [][]string
	for _, v := range spec.Volumes {
		kind, source := sourceOf(v)
		s := status[v.Name]
		rows = append(rows, []string{v.Name, kind, first(source, "-"), first(deviceOf(disks[v.Name]), "-"), first(s.Target, "-"), first(string(s.Phase), "-"), oneLine(s.Message)})
	}
	return p.section("Volumes", []string{"NAME", "KIND", "SOURCE", "DEVICE", "TARGET", "PHASE", "MESSAGE"}, rows)
}

func deviceOf(d kubevirtv1.Disk) string {
	join := func(kind string, bus kubevirtv1.DiskBus) string {
		if bus == "" {
			return kind
		}
		return kind + " on " + string(bus)
	}
	switch {
	case d.CDRom != nil:
		return join("cdrom", d.CDRom.Bus)
	case d.LUN != nil:
		return join("lun", d.LUN.Bus)
	case d.Disk != nil:
		return join("disk", d.Disk.Bus)
	}
	return ""
}

func local(r *corev1.LocalObjectReference) string {
	if r == nil {
		return ""
	}
	return r.Name
}

// sourceOf says where a volume's content comes from.
func sourceOf(v kubevirtv1.Volume) (kind, source string) {
	switch {
	case v.ContainerDisk != nil:
		return "containerDisk", v.ContainerDisk.Image
	case v.PersistentVolumeClaim != nil:
		return "persistentVolumeClaim", v.PersistentVolumeClaim.ClaimName
	case v.DataVolume != nil:
		return "dataVolume", v.DataVolume.Name
	case v.Ephemeral != nil && v.Ephemeral.PersistentVolumeClaim != nil:
		return "ephemeral", v.Ephemeral.PersistentVolumeClaim.ClaimName
	case v.EmptyDisk != nil:
		return "emptyDisk", v.EmptyDisk.Capacity.String()
	case v.CloudInitNoCloud != nil:
		return "cloudInitNoCloud", local(v.CloudInitNoCloud.UserDataSecretRef)
	case v.CloudInitConfigDrive != nil:
		return "cloudInitConfigDrive", local(v.CloudInitConfigDrive.UserDataSecretRef)
	case v.ConfigMap != nil:
		return "configMap", v.ConfigMap.Name
	case v.Secret != nil:
		return "secret", v.Secret.SecretName
	case v.ServiceAccount != nil:
		return "serviceAccount", v.ServiceAccount.ServiceAccountName
	case v.Sysprep != nil:
		return "sysprep", first(local(v.Sysprep.Secret), local(v.Sysprep.ConfigMap))
	case v.HostDisk != nil:
		return "hostDisk", v.HostDisk.Path
	case v.DownwardAPI != nil:
		return "downwardAPI", ""
	}
	return "other", ""
}

func (p *page) interfaces() error {
	spec := p.spec()
	status := map[string]kubevirtv1.VirtualMachineInstanceNetworkInterface{}
	if p.machine.vmi != nil {
		for _, s := range p.machine.vmi.Status.Interfaces {
			status[s.Name] = s
		}
	}
	networks := map[string]string{}
	for _, n := range spec.Networks {
		networks[n.Name] = "pod"
		if n.Multus != nil {
			networks[n.Name] = n.Multus.NetworkName
		}
	}
	var rows [][]string
	for _, i := range spec.Domain.Devices.Interfaces {
		s := status[i.Name]
		rows = append(rows, []string{
			i.Name, first(networks[i.Name], "-"), bindingOf(i), first(i.Model, "virtio"), first(s.MAC, i.MacAddress, "-"),
			first(strings.Join(s.IPs, ", "), s.IP, "-"),
		})
	}
	return p.section("Interfaces", []string{"NAME", "NETWORK", "BINDING", "MODEL", "MAC", "ADDRESSES"}, rows)
}

func bindingOf(i kubevirtv1.Interface) string {
	switch {
	case i.Masquerade != nil:
		return "masquerade"
	case i.Bridge != nil:
		return "bridge"
	case i.SRIOV != nil:
		return "sriov"
	case i.PasstBinding != nil:
		return "passt"
	case i.Binding != nil:
		return i.Binding.Name
	}
	return "default"
}
