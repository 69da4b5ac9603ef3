package launcherpod

import (
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/claims"
	"virtctl/internal/clusterconfig"
	"virtctl/internal/libvirt/layout"
)

// Names of the pod's own volumes, beside layout.SocketVolume and layout.PrivateVolume.
const (
	runtimeVolume   = "libvirt-run"
	hotplugVolume   = "hotplug-disks"
	kernelVolume    = "kernel-boot"
	hugepagesVolume = "hugepages"
	stateVolume     = "vm-state"
	// credentialPrefix begins the names of access credentials' volumes, userPrefix those of the VMI's volumes whose own name
	// is taken.
	credentialPrefix = "access-cred-"
	userPrefix       = "user-"
	hugepagesDir     = "/dev/hugepages"
	// rootCA is the ConfigMap kube-controller-manager puts into every namespace.
	rootCA = "kube-root-ca.crt"
	// tokenSeconds is how long a projected token is valid; kubelet renews it before that.
	tokenSeconds = 3607
	// runtimeMiB bounds what libvirt keeps in memory: sockets and the state of one domain, some 100 KiB.
	runtimeMiB = 16
)

// mounts collects a pod's volumes and where they appear in the compute container.
type mounts struct {
	volumes []corev1.Volume
	mounts  []corev1.VolumeMount
	devices []corev1.VolumeDevice
}

func (m *mounts) add(name string, source corev1.VolumeSource, mount corev1.VolumeMount) {
	mount.Name = name
	m.volumes = append(m.volumes, corev1.Volume{Name: name, VolumeSource: source})
	m.mounts = append(m.mounts, mount)
}

// VolumeName is the pod's name for a volume of the VMI: the same, unless the pod has one of its own with that name.
func VolumeName(volume string) string {
	switch {
	case volume == layout.SocketVolume, volume == layout.PrivateVolume, volume == runtimeVolume, volume == hotplugVolume,
		volume == kernelVolume, volume == hugepagesVolume, volume == stateVolume, strings.HasPrefix(volume, userPrefix), strings.HasPrefix(volume, credentialPrefix):
		return userPrefix + volume
	}
	return volume
}

// own adds the volumes every launcher needs.
func (m *mounts) own(vmi *v1.VirtualMachineInstance) {
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	m.add(layout.PrivateVolume, empty, corev1.VolumeMount{MountPath: layout.PrivateDir})
	// As /run is in memory on a host: libvirt writes its domain's state there at each step and waits until the disk has it, while a
	// guest that moves stands still, too.
	m.add(runtimeVolume, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
		Medium: corev1.StorageMediumMemory, SizeLimit: resource.NewQuantity(runtimeMiB<<20, resource.BinarySI),
	}}, corev1.VolumeMount{MountPath: layout.RuntimeDir})
	m.add(layout.SocketVolume, empty, corev1.VolumeMount{MountPath: layout.SocketDir})
	if !vmi.Spec.Domain.Devices.DisableHotplug {
		fromHost := corev1.MountPropagationHostToContainer
		m.add(hotplugVolume, empty, corev1.VolumeMount{MountPath: layout.HotplugDir, MountPropagation: &fromHost})
	}
	if size := hugepageSize(vmi); size != "" {
		m.add(hugepagesVolume, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMedium("HugePages-" + size),
		}}, corev1.VolumeMount{MountPath: hugepagesDir})
	}
	if boot := kernelBoot(vmi); boot != nil {
		m.image(kernelVolume, boot.Image, boot.ImagePullPolicy, layout.KernelBootDir)
	}
}

// state mounts the claim for the VM's lasting state whole; the launcher knows what is where in it.
func (m *mounts) state(claim string) {
	if claim == "" {
		return
	}
	m.add(stateVolume, corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}},
		corev1.VolumeMount{MountPath: layout.StateDir})
}

func (m *mounts) image(name, ref string, policy corev1.PullPolicy, at string) {
	m.add(name, corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: ref, PullPolicy: policy}},
		corev1.VolumeMount{MountPath: at, ReadOnly: true})
}

// ofVMI adds the volumes the VMI names and the Secrets of its access credentials.
func (m *mounts) ofVMI(in Input) error {
	for i := range in.VMI.Spec.Volumes {
		if err := m.ofVolume(in, &in.VMI.Spec.Volumes[i]); err != nil {
			return err
		}
	}
	for i, secret := range credentialSecrets(in.VMI) {
		m.add(credentialPrefix+strconv.Itoa(i), corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}},
			corev1.VolumeMount{MountPath: layout.AccessCredential(secret), ReadOnly: true})
	}
	return nil
}

func (m *mounts) ofVolume(in Input, v *v1.Volume) error {
	name := VolumeName(v.Name)
	switch {
	case v.ContainerDisk != nil:
		m.image(name, v.ContainerDisk.Image, v.ContainerDisk.ImagePullPolicy, layout.ImageVolume(v.Name))
	case IsHotplug(v), v.EmptyDisk != nil, v.MemoryDump != nil, v.DownwardMetrics != nil:
		// Hot-plugged claims come through another pod; the launcher makes empty disks itself.
	case ClaimName(v) != "":
		m.claim(name, v, in.Claims[v.Name])
	case v.HostDisk != nil:
		return m.hostDisk(name, v, in.Config)
	case v.CloudInitNoCloud != nil:
		m.cloudInit(name, v.Name, v.CloudInitNoCloud.UserDataSecretRef, v.CloudInitNoCloud.NetworkDataSecretRef)
	case v.CloudInitConfigDrive != nil:
		m.cloudInit(name, v.Name, v.CloudInitConfigDrive.UserDataSecretRef, v.CloudInitConfigDrive.NetworkDataSecretRef)
	default:
		source, kind, ok := projected(v)
		if !ok {
			return invalidVolume(v.Name, "its source is not one this version can mount; use another kind of volume")
		}
		m.add(name, source, corev1.VolumeMount{MountPath: layout.Projected(kind, v.Name), ReadOnly: true})
	}
	return nil
}

// ClaimName is the PersistentVolumeClaim that a volume needs, or empty: one that is only read counts too.
func ClaimName(v *v1.Volume) string {
	if v.Ephemeral != nil && v.Ephemeral.PersistentVolumeClaim != nil {
		return v.Ephemeral.PersistentVolumeClaim.ClaimName
	}
	return claims.Of(v.VolumeSource)
}

// IsHotplug tells whether a volume is attached through an attachment pod.
func IsHotplug(v *v1.Volume) bool { return claims.Pluggable(v.VolumeSource) }

func (m *mounts) claim(name string, v *v1.Volume, known Claim) {
	readOnly := v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly
	source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
		ClaimName: ClaimName(v), ReadOnly: readOnly,
	}}
	if known.Block {
		m.volumes = append(m.volumes, corev1.Volume{Name: name, VolumeSource: source})
		m.devices = append(m.devices, corev1.VolumeDevice{Name: name, DevicePath: layout.BlockDevice(v.Name)})
		return
	}
	// An ephemeral volume's claim is only read: writes go to an overlay.
	m.add(name, source, corev1.VolumeMount{MountPath: layout.ClaimDir(v.Name), ReadOnly: readOnly || v.Ephemeral != nil})
}

// hostDisk mounts the file's directory. Pod Security allows that only in privileged namespaces.
func (m *mounts) hostDisk(name string, v *v1.Volume, c clusterconfig.Config) error {
	if !c.Gate(clusterconfig.GateHostDisk) {
		return invalidVolume(v.Name, "host disks are off; add HostDisk to the KubeVirt object's feature gates")
	}
	kind := corev1.HostPathDirectory
	if v.HostDisk.Type == v1.HostDiskExistsOrCreate {
		kind = corev1.HostPathDirectoryOrCreate
	}
	m.add(name, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path.Dir(v.HostDisk.Path), Type: &kind}},
		corev1.VolumeMount{MountPath: layout.ClaimDir(v.Name)})
	return nil
}

// cloudInit puts the keys of both Secrets into one directory, where the launcher finds userdata and networkdata. The user
// data's Secret comes last: when both have a key, it counts.
func (m *mounts) cloudInit(name, volume string, user, network *corev1.LocalObjectReference) {
	var sources []corev1.VolumeProjection
	if network != nil && (user == nil || user.Name != network.Name) {
		sources = append(sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: *network}})
	}
	if user != nil {
		sources = append(sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: *user}})
	}
	if len(sources) == 0 {
		return // all of it is in the spec
	}
	m.add(name, corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}},
		corev1.VolumeMount{MountPath: layout.CloudInit(volume), ReadOnly: true})
}

// projected gives the source of a volume whose files become an ISO image, and which kind of volume it is.
func projected(v *v1.Volume) (corev1.VolumeSource, layout.Source, bool) {
	switch {
	case v.ConfigMap != nil:
		return configMapSource(v.ConfigMap.LocalObjectReference, v.ConfigMap.Optional), layout.ConfigMap, true
	case v.Secret != nil:
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: v.Secret.SecretName, Optional: v.Secret.Optional}}, layout.Secret, true
	case v.DownwardAPI != nil:
		return corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: v.DownwardAPI.Fields}}, layout.DownwardAPI, true
	case v.ServiceAccount != nil:
		return serviceAccountSource(), layout.ServiceAccount, true
	case v.Sysprep != nil && v.Sysprep.ConfigMap != nil:
		return configMapSource(*v.Sysprep.ConfigMap, nil), layout.Sysprep, true
	case v.Sysprep != nil && v.Sysprep.Secret != nil:
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: v.Sysprep.Secret.Name}}, layout.Sysprep, true
	}
	return corev1.VolumeSource{}, "", false
}

func configMapSource(ref corev1.LocalObjectReference, optional *bool) corev1.VolumeSource {
	return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref, Optional: optional}}
}

// serviceAccountSource has the three files of a service account, with a token bound to the pod.
func serviceAccountSource() corev1.VolumeSource {
	seconds := int64(tokenSeconds)
	return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
		{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: rootCA},
			Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
		}}},
	}}}
}

// credentialSecrets are the Secrets of the access credentials, each once.
func credentialSecrets(vmi *v1.VirtualMachineInstance) []string {
	var secrets []string
	seen := map[string]bool{}
	for i := range vmi.Spec.AccessCredentials {
		c := &vmi.Spec.AccessCredentials[i]
		var ref *v1.AccessCredentialSecretSource
		switch {
		case c.SSHPublicKey != nil:
			ref = c.SSHPublicKey.Source.Secret
		case c.UserPassword != nil:
			ref = c.UserPassword.Source.Secret
		}
		if ref != nil && !seen[ref.SecretName] {
			seen[ref.SecretName] = true
			secrets = append(secrets, ref.SecretName)
		}
	}
	return secrets
}
