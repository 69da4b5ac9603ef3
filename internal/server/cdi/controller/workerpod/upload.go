package workerpod

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"virtctl/internal/cdi/names"
)

// annCreatedByUpload marks what was made for an upload.
const annCreatedByUpload = names.Prefix + "storage.createdByUploadController"

// Upload is what an upload server is told beside its claim.
type Upload struct {
	// Secret holds the server's certificate and the authority of clients.
	Secret string
	// Client is the name a client's certificate must have.
	Client string
	// Deadline is when the server ends so that one with a fresh certificate follows.
	Deadline time.Time
	// Scratch is a claim to use besides, or nothing.
	Scratch string
}

// UploadName is the name of the pod, and the base of the Service's.
func UploadName(claim *corev1.PersistentVolumeClaim) string {
	if name := claim.Annotations[names.AnnUploadPod]; name != "" {
		return name
	}
	return names.UploadPod(claim.Name)
}

// UploadServer is the pod that writes into a claim what clients send.
func UploadServer(claim *corev1.PersistentVolumeClaim, u Upload, s *Settings) *corev1.Pod {
	name := UploadName(claim)
	b := base(claim, name, names.ComponentUploadServer, names.WorkerUploadServer, s)
	b.pod.OwnerReferences = OwnedBy(claim)
	b.metrics()
	b.pod.Labels[names.LabelUploadService] = names.Label(name)
	b.pod.Labels[names.LabelUploadTarget] = string(claim.UID)
	b.pod.Annotations[annCreatedByUpload] = "yes"
	b.pod.Annotations[names.AnnOVNOpenPorts] = fmt.Sprintf(`[{"protocol":"tcp","port":%d}]`, names.PortUploadServer)
	b.mount(volumeTLS, names.TLSDir, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: u.Secret}})
	b.claim(volumeData, claim, names.DataDir, false)
	if u.Scratch != "" {
		b.mount(volumeScratch, names.ScratchDir, claimVolume(u.Scratch))
	}
	destination := names.DiskPath
	if IsBlock(claim) {
		destination = names.BlockDevice
	}
	b.env(names.EnvTLSKeyFile, names.TLSDir+"/"+corev1.TLSPrivateKeyKey)
	b.env(names.EnvTLSCertFile, names.TLSDir+"/"+corev1.TLSCertKey)
	b.env(names.EnvClientCertFile, names.TLSDir+"/"+names.ClientCAFile)
	b.env(names.EnvClientName, u.Client)
	b.env(names.EnvFilesystemOverhead, overhead(claim, s))
	b.env(names.EnvUploadImageSize, imageSize(claim))
	b.env(names.EnvPreallocation, preallocation(claim))
	b.env(names.EnvContentType, ContentType(claim))
	b.env(names.EnvOwnerUID, OwnerUID(claim))
	b.env(names.EnvDestination, destination)
	b.given(names.EnvTLSCiphers, s.TLS.Ciphers)
	b.given(names.EnvTLSMinVersion, s.TLS.MinVersion)
	b.env(names.EnvDeadline, u.Deadline.UTC().Format(time.RFC3339))
	b.main.ReadinessProbe = &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: names.PathHealth, Port: intstr.FromInt32(names.PortUploadServer), Scheme: corev1.URISchemeHTTPS,
		}},
		// A person waits for it: every second counts.
		PeriodSeconds: 1, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 3,
	}
	return b.done()
}

// UploadService makes the upload server reachable by name.
func UploadService(claim *corev1.PersistentVolumeClaim) *corev1.Service {
	name := names.Label(UploadName(claim))
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: claim.Namespace, OwnerReferences: OwnedBy(claim),
			Annotations: map[string]string{annCreatedByUpload: "yes"}, Labels: uploadLabels(),
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone,
			Ports: []corev1.ServicePort{{
				Protocol: corev1.ProtocolTCP, Port: names.PortUploadServer, TargetPort: intstr.FromInt32(names.PortUploadServer),
			}},
			Selector: map[string]string{names.LabelUploadService: name},
		},
	}
}

// UploadSecret holds the server's certificate. The pod owns it: it goes with the pod.
func UploadSecret(pod *corev1.Pod, name string, cert, key, clientCA []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: pod.Namespace, Labels: uploadLabels(), Annotations: map[string]string{annCreatedByUpload: "yes"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Data: map[string][]byte{corev1.TLSPrivateKeyKey: key, corev1.TLSCertKey: cert, names.ClientCAFile: clientCA},
	}
}

func uploadLabels() map[string]string {
	return map[string]string{
		names.LabelApp: names.LabelAppValue, names.LabelComponent: names.ComponentUploadServer,
		names.LabelManagedBy: names.LeaseController, names.LabelComp: "storage",
	}
}
