package workerpod

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
)

// ImporterName is the pod's: each stage of a multi-stage import has its own.
func ImporterName(claim *corev1.PersistentVolumeClaim) string {
	if name := claim.Annotations[names.AnnImportPod]; name != "" {
		return name
	}
	if checkpoint := claim.Annotations[names.AnnCheckpointCurrent]; checkpoint != "" {
		return names.ImporterPod(claim.Name + "-checkpoint-" + checkpoint)
	}
	return names.ImporterPod(claim.Name)
}

// Importer is the pod that brings an image from a source into a claim. scratch is the claim to use besides, or nothing.
func Importer(claim *corev1.PersistentVolumeClaim, scratch string, s *Settings) *corev1.Pod {
	b := base(claim, ImporterName(claim), names.ComponentImporter, names.WorkerImport, s)
	b.pod.OwnerReferences = OwnedBy(claim)
	b.metrics()
	for key, value := range claim.Labels {
		if _, taken := b.pod.Labels[key]; !taken {
			b.pod.Labels[key] = value
		}
	}
	importEnv(b, claim, s)
	b.claim(volumeData, claim, names.DataDir, false)
	if scratch != "" {
		b.mount(volumeScratch, names.ScratchDir, claimVolume(scratch))
	}
	importSecrets(b, claim)
	importTrust(b, claim, s)
	if IsNodePull(claim) {
		nodePull(b, claim, s)
	}
	return b.done()
}

// Source is what the claim is filled from.
func Source(claim *corev1.PersistentVolumeClaim) string {
	if source := claim.Annotations[names.AnnSource]; source != "" {
		return source
	}
	return names.SourceHTTP
}

// ContentType is kubevirt or archive.
func ContentType(claim *corev1.PersistentVolumeClaim) string {
	if claim.Annotations[names.AnnContentType] == string(cdi.DataVolumeArchive) {
		return string(cdi.DataVolumeArchive)
	}
	return string(cdi.DataVolumeKubeVirt)
}

// IsNodePull tells that the node's container runtime brings the image.
func IsNodePull(claim *corev1.PersistentVolumeClaim) bool {
	return Source(claim) == names.SourceRegistry && claim.Annotations[names.AnnRegistryImportMethod] == string(cdi.RegistryPullNode)
}

func importEnv(b *build, claim *corev1.PersistentVolumeClaim, s *Settings) {
	a := claim.Annotations
	b.env(names.EnvSource, Source(claim))
	b.env(names.EnvEndpoint, a[names.AnnEndpoint])
	b.env(names.EnvContentType, ContentType(claim))
	b.env(names.EnvImageSize, imageSize(claim))
	b.env(names.EnvOwnerUID, OwnerUID(claim))
	b.env(names.EnvFilesystemOverhead, overhead(claim, s))
	b.env(names.EnvInsecureTLS, strconv.FormatBool(insecure(claim, s)))
	b.env(names.EnvPreallocation, preallocation(claim))
	b.given(names.EnvDiskID, a[names.AnnDiskID])
	b.given(names.EnvUUID, a[names.AnnUUID])
	b.given(names.EnvBackingFile, a[names.AnnBackingFile])
	b.given(names.EnvThumbprint, a[names.AnnThumbprint])
	b.given(names.EnvHTTPProxy, s.Proxy.HTTP)
	b.given(names.EnvHTTPSProxy, s.Proxy.HTTPS)
	b.given(names.EnvNoProxy, s.Proxy.No)
	b.given(names.EnvCurrentCheckpoint, a[names.AnnCheckpointCurrent])
	b.given(names.EnvPreviousCheckpoint, a[names.AnnCheckpointPrevious])
	b.given(names.EnvFinalCheckpoint, a[names.AnnCheckpointFinal])
	b.given(names.EnvArchitecture, a[names.AnnRegistryArchitecture])
	b.given(names.EnvChecksum, a[names.AnnChecksum])
	if a[names.AnnRequiresDirectIO] == "true" {
		b.env(names.EnvCacheMode, names.CacheModeTryNone)
	}
	for i, header := range Numbered(a, names.AnnExtraHeaders) {
		b.env(names.EnvExtraHeader+strconv.Itoa(i), header)
	}
}

// insecure is what the user allowed, or the administrator for this registry.
func insecure(claim *corev1.PersistentVolumeClaim, s *Settings) bool {
	switch Source(claim) {
	case names.SourceHTTP, names.SourceImageio:
		return claim.Annotations[names.AnnInsecureSkipVerify] == "true"
	case names.SourceRegistry:
		u, err := url.Parse(claim.Annotations[names.AnnEndpoint])
		return err == nil && slices.Contains(s.InsecureRegistries, u.Host)
	}
	return false
}

// importSecrets gives credentials: by environment, or as a file where the source's library wants one.
func importSecrets(b *build, claim *corev1.PersistentVolumeClaim) {
	secret := claim.Annotations[names.AnnSecret]
	switch {
	case secret == "", IsNodePull(claim):
	case Source(claim) == names.SourceGCS:
		b.env(names.EnvGoogleCredentials, names.GoogleFile)
		b.mount(volumeSecret, names.GoogleDir, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}})
	default:
		b.envFrom(names.EnvAccessKeyID, secret, names.SecretKeyUser)
		b.envFrom(names.EnvSecretKey, secret, names.SecretKeyPassword)
	}
	for i, header := range Numbered(claim.Annotations, names.AnnSecretExtraHeaders) {
		n := strconv.Itoa(i)
		b.mount("cdi-secret-extra-headers-vol-"+n, path.Join(names.ExtraHeadersDir, n),
			corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: header}})
	}
}

// importTrust gives the authorities to believe.
func importTrust(b *build, claim *corev1.PersistentVolumeClaim, s *Settings) {
	if bundle := claim.Annotations[names.AnnCertConfigMap]; bundle != "" {
		b.env(names.EnvCertDir, names.CertDir)
		b.mount(volumeCerts, names.CertDir, configMapVolume(bundle))
	}
	if s.Proxy.Bundle != "" {
		b.env(names.EnvProxyCertDir, names.ProxyCertDir)
		b.mount(volumeProxy, names.ProxyCertDir, configMapVolume(s.Proxy.Bundle))
	}
}

// nodePull adds the container disk as an image volume: kubelet pulls it with the node's credentials and cache, and the worker
// reads its files. No container of the image's own runs.
func nodePull(b *build, claim *corev1.PersistentVolumeClaim, s *Settings) {
	b.mount(volumeShared, names.SharedDir, corev1.VolumeSource{Image: &corev1.ImageVolumeSource{
		Reference: registryImage(claim), PullPolicy: s.PullPolicy,
	}})
	b.main.VolumeMounts[len(b.main.VolumeMounts)-1].ReadOnly = true
	b.env(names.EnvPullMethod, string(cdi.RegistryPullNode))
	if secret := claim.Annotations[names.AnnSecret]; secret != "" {
		b.pod.Spec.ImagePullSecrets = append(slices.Clone(b.pod.Spec.ImagePullSecrets), corev1.LocalObjectReference{Name: secret})
	}
	if arch := claim.Annotations[names.AnnRegistryArchitecture]; arch != "" {
		if b.pod.Spec.NodeSelector == nil {
			b.pod.Spec.NodeSelector = map[string]string{}
		}
		b.pod.Spec.NodeSelector[corev1.LabelArchStable] = arch
	}
}

// registryImage is the reference without the scheme.
func registryImage(claim *corev1.PersistentVolumeClaim) string {
	endpoint := claim.Annotations[names.AnnEndpoint]
	if _, rest, found := strings.Cut(endpoint, "://"); found {
		return rest
	}
	return endpoint
}

// Numbered gives the values of the annotations KEY.0, KEY.1 … in order.
func Numbered(annotations map[string]string, key string) []string {
	var out []string
	for i := 0; ; i++ {
		value, found := annotations[key+"."+strconv.Itoa(i)]
		if !found {
			return out
		}
		out = append(out, value)
	}
}

func claimVolume(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

func configMapVolume(name string) corev1.VolumeSource {
	return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}}
}
