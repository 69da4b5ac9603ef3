// Package launcherpod renders the pod a virtual machine runs in. It is a pure function of the VMI, the cluster's
// configuration and what is known about its claims; golden files show its results.
//
// The pod has one container (and one for the guest's log, where the VM asks for it) and no privilege: every pod rendered here passes Pod Security "restricted" (a test asserts it for
// all golden files). What needs privilege is done by virt-handler from outside.
package launcherpod

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/libvirt/layout"
)

// StartedFrom is the annotation of a VMI that holds the spec its VM was started with. Pods do not carry it.
const StartedFrom = "virtctl.io/started-from"

// Label is carried by every launcher pod (key kubevirt.io).
const Label = "virt-launcher"

const (
	launcherBinary     = "/usr/bin/virt-launcher"
	namePrefix         = "virt-launcher-"
	defaultContainer   = "kubectl.kubernetes.io/default-container"
	evictOnlyHint      = "descheduler.alpha.kubernetes.io/request-evict-only"
	defaultGraceSecond = 30
	// stopMargin is what libvirt and the launcher get on top of the guest's grace period before kubelet kills them.
	stopMargin = 15
)

// Claim is what the pod needs to know about a volume's PersistentVolumeClaim.
type Claim struct {
	Name  string
	Block bool
}

// Input is all that a launcher pod depends on.
type Input struct {
	VMI    *v1.VirtualMachineInstance
	Config clusterconfig.Config
	// Image is the launcher's image.
	Image string
	// PullSecrets are for the launcher's image; those of container disks come from the VMI.
	PullSecrets []string
	// Claims by volume name. A volume that is missing here is taken as a Filesystem claim.
	Claims map[string]Claim
	// StateClaim is the claim that keeps TPM and firmware variables; empty when the VM has none to keep.
	StateClaim string
	// AutoLimits are limits that the namespace demands from pods which set none.
	AutoLimits AutoLimits
}

// AutoLimits tells which limits to add when the VMI has none.
type AutoLimits struct {
	CPU bool
	// MemoryRatio times the requested memory becomes the limit; 0 adds none.
	MemoryRatio float64
}

// Name is the name of the pod of this VMI. It follows from the VMI's UID, so that creating it twice cannot succeed, however
// old the cache is that we look at.
func Name(vmi *v1.VirtualMachineInstance) string {
	sum := sha256.Sum256([]byte(vmi.UID))
	suffix := "-" + hex.EncodeToString(sum[:])[:5]
	name := namePrefix + vmi.Name
	if room := 63 - len(suffix); len(name) > room {
		name = strings.TrimRight(name[:room], "-.")
	}
	return name + suffix
}

// Hostname is the guest's name: the spec's, else the VMI's up to the first dot, as long as a DNS label may be.
func Hostname(vmi *v1.VirtualMachineInstance) string {
	name := vmi.Spec.Hostname
	if name == "" {
		name, _, _ = strings.Cut(vmi.Name, ".")
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-")
	}
	return name
}

// InstanceID is the value of the label vmi.kubevirt.io/id: the name, or a shortened form of a name too long for a label.
func InstanceID(vmi *v1.VirtualMachineInstance) string {
	if len(vmi.Name) <= 63 {
		return vmi.Name
	}
	sum := sha256.Sum256([]byte(vmi.Name))
	return strings.TrimRight(vmi.Name[:50], "-.") + "-" + hex.EncodeToString(sum[:])[:12]
}

// GraceSeconds is how long the pod may take to stop: the guest's grace period and a margin for what runs around it.
func GraceSeconds(vmi *v1.VirtualMachineInstance) int64 {
	if g := vmi.Spec.TerminationGracePeriodSeconds; g != nil {
		return *g + stopMargin
	}
	return defaultGraceSecond + stopMargin
}

// Render gives the launcher pod of a VMI.
func Render(in Input) (*corev1.Pod, error) {
	vmi := in.VMI
	compute, volumes, err := computeContainer(in)
	if err != nil {
		return nil, err
	}
	networks, err := multusAnnotations(vmi)
	if err != nil {
		return nil, err
	}
	no, grace := false, GraceSeconds(vmi)
	spec := corev1.PodSpec{
		Hostname:                      Hostname(vmi),
		Subdomain:                     vmi.Spec.Subdomain,
		RestartPolicy:                 corev1.RestartPolicyNever,
		TerminationGracePeriodSeconds: &grace,
		EnableServiceLinks:            &no,
		AutomountServiceAccountToken:  &no,
		ServiceAccountName:            serviceAccount(vmi),
		SecurityContext:               podSecurity(in.Config.Launcher),
		ReadinessGates:                []corev1.PodReadinessGate{{ConditionType: v1.VirtualMachineUnpaused}},
		SchedulerName:                 vmi.Spec.SchedulerName,
		PriorityClassName:             vmi.Spec.PriorityClassName,
		Tolerations:                   vmi.Spec.Tolerations,
		TopologySpreadConstraints:     vmi.Spec.TopologySpreadConstraints,
		DNSPolicy:                     vmi.Spec.DNSPolicy,
		DNSConfig:                     vmi.Spec.DNSConfig,
		ImagePullSecrets:              pullSecrets(vmi, in.PullSecrets),
		ResourceClaims:                resourceClaims(vmi),
		NodeSelector:                  nodeSelector(vmi, in.Config),
		Affinity:                      affinity(vmi, in.Config),
		Containers:                    []corev1.Container{compute},
		Volumes:                       volumes,
	}
	if hasConsoleContainer(in) {
		spec.InitContainers = []corev1.Container{consoleContainer(in)}
	}
	if class := in.Config.Launcher.RuntimeClass; class != "" {
		spec.RuntimeClassName = &class
	}
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: vmi.Namespace, Name: Name(vmi), Labels: labels(vmi), Annotations: annotations(in, networks),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceGroupVersionKind)},
		},
		Spec: spec,
	}, nil
}

func computeContainer(in Input) (corev1.Container, []corev1.Volume, error) {
	vmi := in.VMI
	res, err := Requirements(in)
	if err != nil {
		return corev1.Container{}, nil, err
	}
	c := corev1.Container{
		Name:                     layout.ComputeContainer,
		Image:                    in.Image,
		ImagePullPolicy:          in.Config.Launcher.ImagePullPolicy,
		Command:                  command(vmi),
		Env:                      environment(in),
		Resources:                res,
		Ports:                    ports(vmi),
		LivenessProbe:            probe(vmi.Spec.LivenessProbe, livenessStartDelay),
		ReadinessProbe:           probe(vmi.Spec.ReadinessProbe, 0),
		SecurityContext:          containerSecurity(),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	m := mounts{}
	m.own(vmi)
	m.state(in.StateClaim)
	if err := m.ofVMI(in); err != nil {
		return corev1.Container{}, nil, err
	}
	c.VolumeMounts, c.VolumeDevices = m.mounts, m.devices
	return c, m.volumes, nil
}

// command is the launcher; with an annotation of the contract it fails at once, so that one can see what a failure does.
func command(vmi *v1.VirtualMachineInstance) []string {
	if _, fail := vmi.Annotations[v1.FuncTestLauncherFailFastAnnotation]; fail {
		return []string{launcherBinary, "fail"}
	}
	return []string{launcherBinary}
}

// environment sends everything libvirt, QEMU and their helpers write to the one writable directory, also for commands that
// kubelet runs in the container (probes).
func environment(in Input) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "HOME", Value: layout.PrivateDir},
		{Name: "XDG_CACHE_HOME", Value: layout.CacheDir},
		{Name: "XDG_CONFIG_HOME", Value: layout.ConfigDir},
		{Name: "XDG_RUNTIME_DIR", Value: layout.RuntimeDir},
	}
	if hasConsoleContainer(in) {
		env = append(env, corev1.EnvVar{Name: layout.ConsoleLogEnv, Value: layout.ConsoleLog})
	}
	if filters := libvirtLog(in); filters != "" {
		env = append(env, corev1.EnvVar{Name: layout.LibvirtLogEnv, Value: filters})
	}
	return env
}

func labels(vmi *v1.VirtualMachineInstance) map[string]string {
	l := map[string]string{}
	maps.Copy(l, vmi.Labels)
	l[v1.AppLabel] = Label
	l[v1.CreatedByLabel] = string(vmi.UID)
	l[v1.DeprecatedVirtualMachineNameLabel] = Hostname(vmi)
	l[v1.VirtualMachineInstanceIDLabel] = InstanceID(vmi)
	return l
}

func annotations(in Input, networks map[string]string) map[string]string {
	a := map[string]string{}
	for key, value := range in.VMI.Annotations {
		if strings.HasPrefix(key, "kubectl.kubernetes.io/") || key == StartedFrom ||
			key == v1.ControllerAPILatestVersionObservedAnnotation || key == v1.ControllerAPIStorageVersionObservedAnnotation {
			continue
		}
		a[key] = value
	}
	maps.Copy(a, networks)
	a[v1.DomainAnnotation] = in.VMI.Name
	a[defaultContainer] = layout.ComputeContainer
	a[v1.MigrationTransportUnixAnnotation] = "true"
	a[evictOnlyHint] = ""
	overhead := Overhead(in.VMI, in.Config)
	a[v1.MemoryOverheadAnnotationBytes] = strconv.FormatInt(overhead.Value(), 10)
	return a
}

func serviceAccount(vmi *v1.VirtualMachineInstance) string {
	if vmi.Spec.ServiceAccountName != "" {
		return vmi.Spec.ServiceAccountName
	}
	for i := range vmi.Spec.Volumes {
		if sa := vmi.Spec.Volumes[i].ServiceAccount; sa != nil {
			return sa.ServiceAccountName
		}
	}
	return ""
}

// pullSecrets joins the launcher's and the container disks' pull secrets, each once, in a stable order.
func pullSecrets(vmi *v1.VirtualMachineInstance, own []string) []corev1.LocalObjectReference {
	var refs []corev1.LocalObjectReference
	seen := map[string]bool{"": true}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			refs = append(refs, corev1.LocalObjectReference{Name: name})
		}
	}
	for _, name := range own {
		add(name)
	}
	for i := range vmi.Spec.Volumes {
		if d := vmi.Spec.Volumes[i].ContainerDisk; d != nil {
			add(d.ImagePullSecret)
		}
	}
	if boot := kernelBoot(vmi); boot != nil {
		add(boot.ImagePullSecret)
	}
	return refs
}

func resourceClaims(vmi *v1.VirtualMachineInstance) []corev1.PodResourceClaim {
	var claims []corev1.PodResourceClaim
	for _, c := range vmi.Spec.ResourceClaims {
		claims = append(claims, corev1.PodResourceClaim{
			Name: c.Name, ResourceClaimName: c.ResourceClaimName, ResourceClaimTemplateName: c.ResourceClaimTemplateName,
		})
	}
	return claims
}

func kernelBoot(vmi *v1.VirtualMachineInstance) *v1.KernelBootContainer {
	if f := vmi.Spec.Domain.Firmware; f != nil && f.KernelBoot != nil {
		return f.KernelBoot.Container
	}
	return nil
}

// invalidVolume is an error about a volume that no retry mends.
func invalidVolume(name, format string, args ...any) error {
	return fmt.Errorf("volume %q: %s", name, fmt.Sprintf(format, args...))
}
