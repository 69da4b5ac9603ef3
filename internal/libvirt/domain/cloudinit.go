package domain

import (
	"path"
	"strings"

	k8sv1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// What cloud-init looks for on its two kinds of disk.
const (
	labelNoCloud     = "cidata"
	labelConfigDrive = "config-2"
	latest           = "openstack/latest/"

	typeNoCloud     = "nocloud"
	typeConfigDrive = "configdrive"
)

// cloudInitData is what both kinds of cloud-init source say.
type cloudInitData struct {
	user, userBase64, network, networkBase64 string
	userSecret, networkSecret                *k8sv1.LocalObjectReference
}

// cloudInit fills an ISO spec. Files holds the user's data; the launcher adds the metadata (meta-data or meta_data.json),
// because only it can read the SSH keys.
func cloudInit(spec *wire.DiskSpec, vmi *v1.VirtualMachineInstance, volume *v1.Volume, opts DiskOptions) error {
	spec.Kind = wire.DiskISO
	meta := &wire.CloudInit{Hostname: Hostname(vmi), UUID: UUID(vmi)}
	spec.CloudInit = meta
	if source := volume.CloudInitNoCloud; source != nil {
		spec.Label, spec.Link = labelNoCloud, layout.CloudInitISO(vmi.Namespace, vmi.Name, "noCloud.iso")
		meta.Type, meta.InstanceID, meta.InstanceType = typeNoCloud, meta.UUID, instanceType(vmi)
		meta.KeyDirs = keyDirs(vmi, typeNoCloud)
		spec.Files = cloudInitFiles(volume.Name, "user-data", "network-config", cloudInitData{
			user: source.UserData, userBase64: source.UserDataBase64, userSecret: source.UserDataSecretRef,
			network: source.NetworkData, networkBase64: source.NetworkDataBase64, networkSecret: source.NetworkDataSecretRef,
		})
		return nil
	}
	source := volume.CloudInitConfigDrive
	spec.Label, spec.Link = labelConfigDrive, layout.CloudInitISO(vmi.Namespace, vmi.Name, "configdrive.iso")
	meta.Type, meta.InstanceID, meta.InstanceType = typeConfigDrive, vmi.Name+"."+vmi.Namespace, instanceType(vmi)
	meta.KeyDirs = keyDirs(vmi, typeConfigDrive)
	meta.Devices = taggedDevices(vmi, opts)
	spec.Files = cloudInitFiles(volume.Name, latest+"user_data", latest+"network_data.json", cloudInitData{
		user: source.UserData, userBase64: source.UserDataBase64, userSecret: source.UserDataSecretRef,
		network: source.NetworkData, networkBase64: source.NetworkDataBase64, networkSecret: source.NetworkDataSecretRef,
	})
	return nil
}

// cloudInitFiles lists the user's files. A file may appear several times, each time optional: the first that exists counts.
// User data is always there, even if empty, because NoCloud is not recognised without it.
func cloudInitFiles(volume, userFile, networkFile string, data cloudInitData) []wire.ISOFile {
	files := cloudInitFile(userFile, data.user, data.userBase64)
	if data.userSecret != nil {
		files = secretFile(volume, userFile, "userdata", "userData")
	}
	if len(files) == 0 {
		files = []wire.ISOFile{{Path: userFile}}
	}
	if data.networkSecret != nil {
		return append(files, secretFile(volume, networkFile, "networkdata", "networkData")...)
	}
	return append(files, cloudInitFile(networkFile, data.network, data.networkBase64)...)
}

func cloudInitFile(name, plain, encoded string) []wire.ISOFile {
	switch {
	case encoded != "":
		return []wire.ISOFile{{Path: name, Content: []byte(encoded), Base64: true}}
	case plain != "":
		return []wire.ISOFile{{Path: name, Content: []byte(plain)}}
	}
	return nil
}

// secretFile reads one of the keys that the contract allows for a Secret.
func secretFile(volume, name string, keys ...string) []wire.ISOFile {
	var files []wire.ISOFile
	for _, key := range keys {
		files = append(files, wire.ISOFile{Path: name, From: path.Join(layout.CloudInit(volume), key), Optional: true, Needed: true})
	}
	return files
}

// Hostname is the guest's name: the spec's, else the object's up to its first dot, as long as a DNS label may be.
func Hostname(vmi *v1.VirtualMachineInstance) string {
	if vmi.Spec.Hostname != "" {
		return vmi.Spec.Hostname
	}
	name, _, _ := strings.Cut(vmi.Name, ".")
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-")
	}
	return name
}

func instanceType(vmi *v1.VirtualMachineInstance) string {
	if name := vmi.Annotations[v1.InstancetypeAnnotation]; name != "" {
		return name
	}
	return vmi.Annotations[v1.ClusterInstancetypeAnnotation]
}

// keyDirs are the Secrets whose keys go into the metadata of a cloud-init disk of this kind.
func keyDirs(vmi *v1.VirtualMachineInstance, kind string) []string {
	var dirs []string
	for i := range vmi.Spec.AccessCredentials {
		key := vmi.Spec.AccessCredentials[i].SSHPublicKey
		if key == nil || key.Source.Secret == nil {
			continue
		}
		method := key.PropagationMethod
		if kind == typeNoCloud && method.NoCloud != nil || kind == typeConfigDrive && method.ConfigDrive != nil {
			dirs = append(dirs, layout.AccessCredential(key.Source.Secret.SecretName))
		}
	}
	return dirs
}

// taggedDevices tells the guest which of its devices carry which tag. Addresses that libvirt will choose are not known yet;
// interfaces are recognised by their MAC then.
func taggedDevices(vmi *v1.VirtualMachineInstance, opts DiskOptions) []wire.CloudInitDevice {
	var devices []wire.CloudInitDevice
	spec := &vmi.Spec.Domain.Devices
	for i := range spec.Interfaces {
		iface := &spec.Interfaces[i]
		if iface.Tag == "" {
			continue
		}
		mac := opts.MACs[iface.Name]
		if mac == "" {
			mac = iface.MacAddress
		}
		devices = append(devices, wire.CloudInitDevice{
			Type: "nic", Bus: "pci", Address: guestAddress(iface.PciAddress), MAC: mac, Tags: []string{iface.Tag},
		})
	}
	for i := range spec.Disks {
		disk := &spec.Disks[i]
		if disk.Tag == "" {
			continue
		}
		device := wire.CloudInitDevice{Type: "disk", Bus: string(diskBus(disk)), Tags: []string{disk.Tag}}
		if device.Bus == string(v1.DiskBusVirtio) {
			device.Bus = "pci"
		}
		if disk.Disk != nil {
			device.Address = guestAddress(disk.Disk.PciAddress)
		}
		devices = append(devices, device)
	}
	return append(devices, taggedHostDevices(spec)...)
}

func taggedHostDevices(spec *v1.Devices) []wire.CloudInitDevice {
	var devices []wire.CloudInitDevice
	for i := range spec.GPUs {
		if tag := spec.GPUs[i].Tag; tag != "" {
			devices = append(devices, wire.CloudInitDevice{Type: "hostdev", Bus: "pci", Tags: []string{tag}})
		}
	}
	for i := range spec.HostDevices {
		if tag := spec.HostDevices[i].Tag; tag != "" {
			devices = append(devices, wire.CloudInitDevice{Type: "hostdev", Bus: "pci", Tags: []string{tag}})
		}
	}
	return devices
}

func guestAddress(pci string) string {
	if pci == "" {
		return ""
	}
	return "pci:" + pci
}
