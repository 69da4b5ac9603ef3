package rules

import (
	"encoding/base64"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// maxCloudInit is how much user data or network data may stand in a manifest; more goes into a Secret.
const maxCloudInit = 2048

func volumes(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	list := at.Child("volumes")
	first := map[string]int{}
	for i, v := range spec.Volumes {
		name := list.Index(i).Child("name")
		if problems := validation.IsDNS1123Label(v.Name); len(problems) > 0 {
			c.invalid(name, "%s %q is not valid: %s", name, v.Name, strings.Join(problems, ", "))
		}
		if other, seen := first[v.Name]; seen {
			c.duplicate(list.Index(i).Child("name"), "%s and %s must not have the same Name.", list.Index(i), list.Index(other))
		} else {
			first[v.Name] = i
		}
		if n := sources(v.VolumeSource); n != 1 {
			c.invalid(list.Index(i), "%s must have exactly one source type set, not %d", list.Index(i), n)
		}
	}
}

func sources(v v1.VolumeSource) int {
	return count(v.HostDisk != nil, v.PersistentVolumeClaim != nil, v.CloudInitNoCloud != nil, v.CloudInitConfigDrive != nil,
		v.Sysprep != nil, v.ContainerDisk != nil, v.Ephemeral != nil, v.EmptyDisk != nil, v.DataVolume != nil, v.ConfigMap != nil,
		v.Secret != nil, v.DownwardAPI != nil, v.ServiceAccount != nil, v.DownwardMetrics != nil, v.MemoryDump != nil,
		v.ContainerPath != nil)
}

// cloudInitData is what both kinds of cloud-init volumes hold.
type cloudInitData struct {
	user, userBase64, network, networkBase64 string
	userSecret, networkSecret                bool
}

func cloudInit(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for i, v := range spec.Volumes {
		volume := at.Child("volumes").Index(i)
		var d cloudInitData
		switch {
		case v.CloudInitNoCloud != nil:
			s := v.CloudInitNoCloud
			d = cloudInitData{
				s.UserData, s.UserDataBase64, s.NetworkData, s.NetworkDataBase64,
				s.UserDataSecretRef != nil, s.NetworkDataSecretRef != nil,
			}
			volume = volume.Child("cloudInitNoCloud")
		case v.CloudInitConfigDrive != nil:
			s := v.CloudInitConfigDrive
			d = cloudInitData{
				s.UserData, s.UserDataBase64, s.NetworkData, s.NetworkDataBase64,
				s.UserDataSecretRef != nil, s.NetworkDataSecretRef != nil,
			}
			volume = volume.Child("cloudInitConfigDrive")
		default:
			continue
		}
		cloudInitSource(c, volume, d)
		// Access credentials fill the volume as well.
		if d == (cloudInitData{}) && len(spec.AccessCredentials) == 0 {
			c.invalid(volume, "%s must have at least one userdatasource or one networkdatasource set.", volume)
		}
	}
}

func cloudInitSource(c *Check, at *field.Path, d cloudInitData) {
	if count(d.user != "", d.userBase64 != "", d.userSecret) > 1 {
		c.invalid(at, "%s must have only one userdatasource set.", at)
	}
	if count(d.network != "", d.networkBase64 != "", d.networkSecret) > 1 {
		c.invalid(at, "%s must have only one networkdata source set.", at)
	}
	inline := func(child, text, encoded, secret string) {
		length := len(text)
		if encoded != "" {
			decoded, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				c.invalid(at.Child(child+"Base64"), "%s is not a valid base64 value.", at.Child(child+"Base64"))
			}
			length = len(decoded)
		}
		if length > maxCloudInit {
			c.invalid(at, "%s exceeds %d byte limit. Should use %s for larger data.", at.Child(child), maxCloudInit, secret)
		}
	}
	inline("userData", d.user, d.userBase64, "UserDataSecretRef")
	inline("networkData", d.network, d.networkBase64, "NetworkDataSecretRef")
}

// storageVolumes judges the sources that hold disks.
func storageVolumes(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	for i, v := range spec.Volumes {
		volume := at.Child("volumes").Index(i)
		switch {
		case v.ContainerDisk != nil:
			containerDisk(c, volume.Child("containerDisk"), v.ContainerDisk)
		case v.HostDisk != nil:
			hostDisk(c, volume.Child("hostDisk"), v.HostDisk)
		case v.EmptyDisk != nil:
			if v.EmptyDisk.Capacity.Sign() <= 0 {
				c.invalid(volume.Child("emptyDisk", "capacity"), "%s must be greater than 0", volume.Child("emptyDisk", "capacity"))
			}
		case v.Ephemeral != nil:
			if v.Ephemeral.PersistentVolumeClaim == nil || v.Ephemeral.PersistentVolumeClaim.ClaimName == "" {
				c.required(volume.Child("ephemeral", "persistentVolumeClaim", "claimName"), "an ephemeral volume needs the claim behind it")
			}
		case v.PersistentVolumeClaim != nil:
			needName(c, volume.Child("persistentVolumeClaim", "claimName"), v.PersistentVolumeClaim.ClaimName)
		case v.DataVolume != nil:
			needName(c, volume.Child("dataVolume", "name"), v.DataVolume.Name)
		default:
			configVolume(c, volume, v)
		}
	}
}

func needName(c *Check, at *field.Path, name string) {
	if name == "" {
		c.required(at, "%s must not be empty", at)
	} else if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		c.invalid(at, "%s %q is not valid: %s", at, name, strings.Join(problems, ", "))
	}
}

func containerDisk(c *Check, at *field.Path, d *v1.ContainerDiskSource) {
	if d.Image == "" {
		c.required(at.Child("image"), "%s must not be empty", at.Child("image"))
	}
	insideImage(c, at.Child("path"), d.Path)
	enum(c, at.Child("imagePullPolicy"), d.ImagePullPolicy, "Always", "IfNotPresent", "Never")
}

// insideImage refuses paths that could lead out of an image (CVE-2022-1798). The launcher opens them below the image's root
// as well.
func insideImage(c *Check, at *field.Path, p string) {
	switch {
	case p == "":
	case !path.IsAbs(p):
		c.invalid(at, "%s must be an absolute path to a file without relative elements", at)
	case path.Clean(p) != p || p == "/":
		c.invalid(at, "%s must be an absolute path to a file without relative elements", at)
	case strings.ContainsAny(p, ",\x00\n"):
		c.invalid(at, "%s must not hold commas or control characters", at)
	}
}

func hostDisk(c *Check, at *field.Path, d *v1.HostDisk) {
	if !c.gate(at, clusterconfig.GateHostDisk, "HostDisk feature gate is not enabled") {
		return
	}
	if d.Path == "" {
		c.required(at.Child("path"), "%s is required for hostDisk volume", at.Child("path"))
	} else if !path.IsAbs(d.Path) || path.Clean(d.Path) != d.Path {
		c.invalid(at.Child("path"), "%s must be an absolute path without relative elements", at.Child("path"))
	}
	switch d.Type {
	case v1.HostDiskExists:
		if !d.Capacity.IsZero() {
			c.invalid(at.Child("capacity"), "%s is allowed to pass only with %s equal to '%s'", at.Child("capacity"), at.Child("type"),
				v1.HostDiskExistsOrCreate)
		}
	case v1.HostDiskExistsOrCreate:
		if d.Capacity.Sign() <= 0 {
			c.required(at.Child("capacity"), "%s is required when %s is %s", at.Child("capacity"), at.Child("type"), d.Type)
		}
	default:
		c.invalid(at.Child("type"), "%s has invalid value '%s', allowed are '%s' or '%s'", at.Child("type"), d.Type,
			v1.HostDiskExistsOrCreate, v1.HostDiskExists)
	}
}

func configVolume(c *Check, at *field.Path, v v1.Volume) {
	switch {
	case v.ConfigMap != nil:
		needName(c, at.Child("configMap", "name"), v.ConfigMap.Name)
		volumeLabel(c, at.Child("configMap", "volumeLabel"), v.ConfigMap.VolumeLabel)
	case v.Secret != nil:
		needName(c, at.Child("secret", "secretName"), v.Secret.SecretName)
		volumeLabel(c, at.Child("secret", "volumeLabel"), v.Secret.VolumeLabel)
	case v.ServiceAccount != nil:
		needName(c, at.Child("serviceAccount", "serviceAccountName"), v.ServiceAccount.ServiceAccountName)
	case v.DownwardAPI != nil:
		volumeLabel(c, at.Child("downwardAPI", "volumeLabel"), v.DownwardAPI.VolumeLabel)
	case v.Sysprep != nil:
		if count(v.Sysprep.Secret != nil, v.Sysprep.ConfigMap != nil) != 1 {
			c.invalid(at.Child("sysprep"), "%s must have exactly one source set, secret or configMap", at.Child("sysprep"))
		}
	case v.MemoryDump != nil:
		needName(c, at.Child("memoryDump", "claimName"), v.MemoryDump.ClaimName)
	case v.ContainerPath != nil:
		c.gate(at.Child("containerPath"), clusterconfig.GateContainerPathVolumes, "ContainerPath volumes feature gate is not enabled")
	case v.DownwardMetrics != nil:
		c.gate(at.Child("downwardMetrics"), clusterconfig.GateDownwardMetrics, "downwardMetrics disks are not allowed")
	}
}

// volumeLabel ends up in an ISO 9660 file system.
func volumeLabel(c *Check, at *field.Path, label string) {
	if len(label) > 32 {
		c.invalid(at, "%s must be at most 32 characters long", at)
	}
	if strings.ContainsFunc(label, func(r rune) bool { return r < ' ' || r > '~' }) {
		c.invalid(at, "%s must be made of printable ASCII characters", at)
	}
}

// singletonVolumes judges volumes of which there may be one.
func singletonVolumes(c *Check, at *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	accounts, metrics, dumps := 0, 0, 0
	for _, v := range spec.Volumes {
		accounts += count(v.ServiceAccount != nil)
		metrics += count(v.DownwardMetrics != nil)
		dumps += count(v.MemoryDump != nil)
	}
	list := at.Child("volumes")
	if accounts > 1 {
		c.invalid(list, "%s must have max one serviceAccount volume set", list)
	}
	if metrics > 1 {
		c.invalid(list, "%s must have max one downwardMetric volume set", list)
	}
	if dumps > 1 {
		c.invalid(list, "%s must have max one memory dump volume set", list)
	}
}
