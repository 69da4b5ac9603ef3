package launcherpod

import (
	"path"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/libvirt/layout"
)

const (
	// AttachmentLabel is the value of the label kubevirt.io on pods that hold a plugged volume (contract).
	AttachmentLabel = layout.AttachmentLabel
	// StateLabel finds the claim that keeps a VM's TPM and firmware variables, whatever its name: a restored VM brings its own
	// (contract). It also begins the claim's name.
	StateLabel = "persistent-state-for"

	ownerNameNote = "kubevirt.io/owner-vmi-name"
	ownerUIDNote  = "kubevirt.io/owner-vmi-uid"
	heldVolume    = "volume"
)

// Attachment is all that an attachment pod depends on.
type Attachment struct {
	VMI    *v1.VirtualMachineInstance
	Config clusterconfig.Config
	Image  string
	// PullSecrets are for the image.
	PullSecrets []string
	// Launcher is the pod the volume is for.
	Launcher *corev1.Pod
	Volume   *v1.Volume
	Claim    Claim
	// Capacity is how large the disk image of an empty Filesystem claim becomes.
	Capacity    int64
	Preallocate bool
	// File is what is held of a claim that takes a memory dump, instead of a disk image.
	File string
}

// AttachmentName is the name of the pod that holds a volume for a launcher pod.
func AttachmentName(launcher *corev1.Pod, volume string) string {
	return layout.AttachmentPod(string(launcher.UID), volume)
}

// RenderAttachment gives the pod that brings one plugged volume to the launcher's node and keeps it there. kubelet mounts the
// volume for it as for every pod; virt-handler makes it appear in the launcher pod. It is as unprivileged as the launcher.
func RenderAttachment(a Attachment) *corev1.Pod {
	no, grace := false, int64(0)
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: a.VMI.Namespace, Name: AttachmentName(a.Launcher, a.Volume.Name),
			Labels:      map[string]string{v1.AppLabel: AttachmentLabel},
			Annotations: map[string]string{ownerNameNote: a.VMI.Name, ownerUIDNote: string(a.VMI.UID)},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(a.Launcher, corev1.SchemeGroupVersion.WithKind("Pod")),
			},
		},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &grace,
			EnableServiceLinks: &no, AutomountServiceAccountToken: &no,
			SecurityContext:  attachmentSecurity(a.Config.Launcher),
			Tolerations:      a.VMI.Spec.Tolerations,
			ImagePullSecrets: pullSecrets(&v1.VirtualMachineInstance{}, a.PullSecrets),
			Affinity:         onNode(a.Launcher.Spec.NodeName),
			Containers:       []corev1.Container{attachmentContainer(a)},
			Volumes: []corev1.Volume{
				{Name: layout.SocketVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: heldVolume, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
					ClaimName: a.Claim.Name, ReadOnly: a.Volume.PersistentVolumeClaim != nil && a.Volume.PersistentVolumeClaim.ReadOnly,
				}}},
			},
		},
	}
}

// attachmentSecurity: the pod serves no network.
func attachmentSecurity(l clusterconfig.Launcher) *corev1.PodSecurityContext {
	s := podSecurity(l)
	s.Sysctls = nil
	return s
}

// onNode leaves the way to the node to the scheduler, which also binds claims that wait for their first consumer.
func onNode(node string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{
				Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
			}},
		}}},
	}}
}

func attachmentContainer(a Attachment) corev1.Container {
	c := corev1.Container{
		Name: AttachmentLabel, Image: a.Image, ImagePullPolicy: a.Config.Launcher.ImagePullPolicy,
		Command:         []string{launcherBinary, "hold"},
		Resources:       attachmentResources(a.Config.Launcher),
		SecurityContext: containerSecurity(),
		VolumeMounts:    []corev1.VolumeMount{{Name: layout.SocketVolume, MountPath: layout.SocketDir}},
	}
	if a.Claim.Block {
		c.VolumeDevices = []corev1.VolumeDevice{{Name: heldVolume, DevicePath: layout.HeldDevice}}
		return c
	}
	image := layout.HeldImage
	if a.File != "" {
		image = path.Join(layout.HeldDir, a.File)
	}
	c.Command = append(c.Command, "--image", image, "--capacity", strconv.FormatInt(a.Capacity, 10))
	if a.Preallocate {
		c.Command = append(c.Command, "--preallocate")
	}
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: heldVolume, MountPath: layout.HeldDir})
	return c
}

func attachmentResources(l clusterconfig.Launcher) corev1.ResourceRequirements {
	if set, ok := l.Support[v1.HotplugAttachment]; ok {
		return set
	}
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("2M")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("80M")},
	}
}
