package workerpod

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"virtctl/internal/cdi/names"
)

// Keys of a clone source's Secret.
const (
	keyClientCert = "tls.crt"
	keyClientKey  = "tls.key"
)

// volumeModeBlock and volumeModeFilesystem are values of VOLUME_MODE.
const (
	volumeModeBlock      = "block"
	volumeModeFilesystem = "filesystem"
)

// CloneSourceName is the pod's that reads for a target claim.
func CloneSourceName(target *corev1.PersistentVolumeClaim) string {
	if name := target.Annotations[names.AnnCloneSourcePod]; name != "" {
		return name
	}
	return string(target.UID) + names.CloneSourceSuffix
}

// CloneSource is the pod that reads one claim and sends it to the upload server of another. It cannot be owned by the target,
// which may be in another namespace: the target's label and finalizer tie them together.
func CloneSource(source, target *corev1.PersistentVolumeClaim, secret string, serverCA []byte, s *Settings) *corev1.Pod {
	b := base(source, CloneSourceName(target), names.ComponentCloneSource, names.WorkerCloneSource, s)
	b.metrics()
	b.pod.Labels[names.LabelCloneSourceUnique] = string(target.UID)
	b.pod.Annotations[names.AnnOwnerUID] = OwnerUID(target)
	b.pod.Annotations[names.AnnCloneOf] = target.Namespace + "/" + target.Name
	b.pod.Spec.PriorityClassName = target.Annotations[names.AnnPriorityClassName]
	b.pod.Spec.ServiceAccountName = ""
	b.envFrom(names.EnvClientKey, secret, keyClientKey)
	b.envFrom(names.EnvClientCert, secret, keyClientCert)
	b.env(names.EnvServerCACert, string(serverCA))
	b.env(names.EnvUploadURL, names.UploadURL(target.Name, target.Namespace, names.PathUpload))
	b.env(names.EnvOwnerUID, OwnerUID(target))
	b.env(names.EnvPreallocation, preallocation(target))
	b.env(names.EnvContentType, ContentType(target))
	b.claim(volumeData, source, names.CloneMount, false)
	if IsBlock(source) {
		b.env(names.EnvVolumeMode, volumeModeBlock)
		b.env(names.EnvMountPoint, names.BlockDevice)
	} else {
		b.env(names.EnvVolumeMode, volumeModeFilesystem)
		b.env(names.EnvMountPoint, names.CloneMount)
		b.main.VolumeMounts[len(b.main.VolumeMounts)-1].ReadOnly = true
	}
	// A volume that one node can use at a time is read where the target is written, if they can meet.
	if target.Namespace == source.Namespace {
		b.pod.Spec.Affinity = besideUploadServer(b.pod.Spec.Affinity, target)
	}
	return b.done()
}

func besideUploadServer(a *corev1.Affinity, target *corev1.PersistentVolumeClaim) *corev1.Affinity {
	if a == nil {
		a = &corev1.Affinity{}
	}
	if a.PodAffinity == nil {
		a.PodAffinity = &corev1.PodAffinity{}
	}
	a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution,
		corev1.WeightedPodAffinityTerm{Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{names.LabelUploadTarget: string(target.UID)}},
			TopologyKey:   corev1.LabelHostname,
		}})
	return a
}

// CloneSecret holds the certificate a clone source shows. The pod owns it.
func CloneSecret(pod *corev1.Pod, name string, cert, key []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: pod.Namespace,
			Labels: map[string]string{
				names.LabelApp: names.LabelAppValue, names.LabelComponent: names.ComponentCloneSource,
				names.LabelManagedBy: names.LeaseController, names.LabelComp: "storage",
			},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Data: map[string][]byte{keyClientKey: key, keyClientCert: cert},
	}
}
