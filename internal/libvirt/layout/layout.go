// Package layout names the places inside a launcher pod. The pod's manifest (virt-controller), the domain's XML
// (virt-handler) and the launcher itself agree on them here and nowhere else.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strconv"
)

// Fixed places.
const (
	// SocketDir is an emptyDir (SocketVolume) through which virt-handler reaches the launcher from the node.
	SocketDir    = "/var/run/kubevirt/sockets"
	SocketVolume = "sockets"
	// LauncherSocketName is the launcher's socket in SocketDir.
	LauncherSocketName = "launcher.sock"
	LauncherSocket     = SocketDir + "/" + LauncherSocketName
	// PrivateDir is an emptyDir (PrivateVolume) for everything else the launcher writes: it is HOME and every XDG directory.
	PrivateDir    = "/var/run/kubevirt-private"
	PrivateVolume = "private"
	// CacheDir is XDG_CACHE_HOME, RuntimeDir XDG_RUNTIME_DIR, ConfigDir XDG_CONFIG_HOME.
	CacheDir   = PrivateDir + "/cache"
	RuntimeDir = PrivateDir + "/run"
	ConfigDir  = PrivateDir + "/config"
	// TempDir is TMPDIR. Programs that insist on /tmp (swtpm_setup) find it there by a link in the image.
	TempDir = PrivateDir + "/tmp"
	// DiskDir holds overlays and empty disks, ISODir cloud-init's images, NVRAMDir firmware variables.
	DiskDir  = PrivateDir + "/disks"
	ISODir   = PrivateDir + "/iso"
	NVRAMDir = PrivateDir + "/nvram"
	// SerialSocket and VNCSocket are where QEMU listens.
	SerialSocket = PrivateDir + "/serial0"
	VNCSocket    = PrivateDir + "/vnc"
	AgentSocket  = PrivateDir + "/agent"
	// ConsoleLog is the pipe through which the launcher hands the guest's serial output to ConsoleLogContainer, in pods that have
	// that container. ConsoleLogEnv tells the launcher so.
	ConsoleLog    = PrivateDir + "/console-log"
	ConsoleLogEnv = "VIRT_LAUNCHER_CONSOLE_LOG"
	// USBSlots is how many USB devices of clients a guest can have at once (contract); QEMU listens for each at USBSocket.
	USBSlots = 4
	// MigrationDir holds the sockets of a migration's streams.
	MigrationDir = SocketDir + "/migration"
	// MigrationLibvirtSocket, MigrationMemorySocket and MigrationNBDSocket are the streams of a migration. On the source
	// virt-handler listens there and forwards to the target; on the target QEMU listens on the last two. libvirt wants the paths
	// of both sides to be the same.
	MigrationLibvirtSocket = MigrationDir + "/libvirt"
	MigrationMemorySocket  = MigrationDir + "/memory"
	MigrationNBDSocket     = MigrationDir + "/nbd"
	// KernelBootDir is where the kernel boot image is mounted.
	KernelBootDir = "/var/run/kubevirt-kernel-boot"
	// StateDir is where the claim for the VM's lasting state is mounted: firmware variables and TPMs, in StateNVRAM and StateTPM
	// below it. The launcher links NVRAMDir and TPMDir there.
	StateDir   = "/var/run/kubevirt-state"
	StateNVRAM = StateDir + "/nvram"
	StateTPM   = StateDir + "/swtpm"
	// TPMDir is where libvirt keeps the state of TPMs.
	TPMDir = ConfigDir + "/libvirt/qemu/swtpm"
	// HotplugDir is where hot-plugged volumes appear.
	HotplugDir = "/var/run/kubevirt/hotplug-disks"
	// An attachment pod holds one volume for a launcher pod: a Filesystem claim at HeldDir with its image HeldImage, or a Block
	// claim at HeldDevice.
	HeldDir    = "/volume"
	HeldImage  = HeldDir + "/disk.img"
	HeldDevice = "/dev/volume"
	// AttachmentLabel is the value of the label kubevirt.io on attachment pods (contract).
	AttachmentLabel = "hotplug-disk"
	// LibvirtLogEnv holds the log_filters of libvirt's daemon where its log is asked for. libvirt's own variable would make the launcher
	// log what its client does, too.
	LibvirtLogEnv = "VIRT_LAUNCHER_LIBVIRT_LOG"
	// ClaimsDir has the mounts of Filesystem claims, see ClaimDir.
	ClaimsDir = PrivateDir + "/vmi-disks"
	// UID is the user and group everything in the pod runs as.
	UID = 107
	// ComputeContainer is the container that runs the launcher.
	ComputeContainer = "compute"
	// ConsoleLogContainer is the container whose log is the guest's serial output and nothing else (contract).
	ConsoleLogContainer = "guest-console-log"
)

// ImageVolume is where a container disk's image is mounted.
func ImageVolume(volume string) string { return path.Join("/var/run/kubevirt-image-volume", volume) }

// ClaimDir is where a Filesystem claim is mounted; its image is ClaimImage.
func ClaimDir(volume string) string { return path.Join(ClaimsDir, volume) }

// ClaimImage is a Filesystem claim's disk image.
func ClaimImage(volume string) string { return path.Join(ClaimDir(volume), "disk.img") }

// BlockDevice is where a Block claim appears.
func BlockDevice(volume string) string { return path.Join("/dev", volume) }

// CloudInit is where a cloud-init volume's Secrets are mounted: userdata and networkdata below it.
func CloudInit(volume string) string { return path.Join(PrivateDir, "cloud-init", volume) }

// Source is a kind of volume whose files become an image. Where the files are mounted and where the image is made is contract: what
// looks into launcher pods from outside (upstream's own tests do) expects them there.
type Source string

// The kinds. A VirtualMachineInstance has at most one serviceAccount volume.
const (
	ConfigMap      Source = "config-map"
	Secret         Source = "secret"
	DownwardAPI    Source = "downwardapi"
	Sysprep        Source = "sysprep"
	ServiceAccount Source = "service-account"
)

// Projected is where a volume's files are mounted. A service account's are where every program looks for them.
func Projected(kind Source, volume string) string {
	if kind == ServiceAccount {
		return "/var/run/secrets/kubernetes.io/serviceaccount"
	}
	return path.Join(PrivateDir, string(kind), volume)
}

// ProjectedISO is the image made of a volume's files.
func ProjectedISO(kind Source, volume string) string {
	if kind == ServiceAccount {
		return path.Join(PrivateDir, "service-account-disk", "service-account.iso")
	}
	return path.Join(PrivateDir, string(kind)+"-disks", volume+".iso")
}

// ISODirs are where images of files are made: each launcher makes its own.
func ISODirs() []string {
	dirs := []string{ISODir, path.Dir(ProjectedISO(ServiceAccount, ""))}
	for _, kind := range []Source{ConfigMap, Secret, DownwardAPI, Sysprep} {
		dirs = append(dirs, path.Dir(ProjectedISO(kind, "any")))
	}
	return dirs
}

// AccessCredential is where an access credential's Secret is mounted.
func AccessCredential(secret string) string {
	return path.Join(PrivateDir, "access-credentials", secret)
}

// Disk is an overlay or an empty disk made by the launcher.
func Disk(volume string) string { return path.Join(DiskDir, volume+".qcow2") }

// ISO is a cloud-init image made by the launcher.
func ISO(volume string) string { return path.Join(ISODir, volume+".iso") }

// CloudInitISO is where those who look into launcher pods expect cloud-init's image (contract), with /var/run/kubevirt-ephemeral-disks
// for PrivateDir: that is a link in the launcher's image. The domain has it as ISO.
func CloudInitISO(namespace, name, file string) string {
	return path.Join(PrivateDir, "cloud-init-data", namespace, name, file)
}

// AttachmentPod is the name of the pod that holds a plugged volume for the launcher pod of that UID. It follows from both, so that
// it cannot be made twice and that virt-handler finds it before any status tells it.
func AttachmentPod(launcherUID, volume string) string {
	sum := sha256.Sum256([]byte(launcherUID + "/" + volume))
	return "hp-volume-" + hex.EncodeToString(sum[:])[:10]
}

// USBSocket is where QEMU listens for the USB device of a client.
func USBSocket(slot int) string { return PrivateDir + "/usbredir" + strconv.Itoa(slot) }
