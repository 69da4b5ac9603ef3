package migration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/libvirt/layout"
)

// createTarget makes the pod the guest shall move into. Its name follows from the migration's UID, so that creating it twice
// cannot succeed.
func (r *Reconciler) createTarget(ctx context.Context, p *pass) error {
	// The cache keeps of pods only what reconcilers look at.
	source := &corev1.Pod{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(p.source), source); err != nil {
		return fmt.Errorf("read the source pod: %w", err)
	}
	pod := targetPod(p, source, r.LauncherImage)
	err := r.Client.Create(ctx, pod)
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		setCondition(p.migration, v1.VirtualMachineInstanceMigrationRejectedByResourceQuota, corev1.ConditionTrue,
			"ExceededQuota", "the target pod needs as much as the machine once more: "+err.Error(), r.Now())
		p.after = retryQuota
		return nil
	case apierrors.IsForbidden(err):
		r.fail(p, "the target pod is refused: "+err.Error())
		return nil
	case err != nil:
		return fmt.Errorf("create the target pod: %w", err)
	}
	if rejected(p.migration) {
		setCondition(p.migration, v1.VirtualMachineInstanceMigrationRejectedByResourceQuota, corev1.ConditionFalse, "HasRoom", "", r.Now())
	}
	p.target = pod
	return nil
}

// targetPod is the source's pod once more, on another node: what the guest sees must not change with the cluster's settings.
// Only the launcher may be newer.
func targetPod(p *pass, source *corev1.Pod, image string) *corev1.Pod {
	m, vmi := p.migration, p.vmi
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: source.Namespace, Name: targetName(vmi, m),
			Labels: maps.Clone(source.Labels), Annotations: maps.Clone(source.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(vmi, v1.VirtualMachineInstanceGroupVersionKind)},
		},
		Spec: *source.Spec.DeepCopy(),
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	delete(pod.Labels, v1.NodeNameLabel)
	delete(pod.Labels, v1.OutdatedLauncherImageLabel)
	delete(pod.Annotations, "k8s.v1.cni.cncf.io/network-status")
	delete(pod.Annotations, "descheduler.alpha.kubernetes.io/eviction-in-progress")
	pod.Labels[v1.MigrationJobLabel] = string(m.UID)
	pod.Annotations[v1.MigrationJobNameAnnotation] = m.Name
	spec := &pod.Spec
	spec.NodeName = ""
	for key, value := range m.Spec.AddedNodeSelector {
		if spec.NodeSelector == nil {
			spec.NodeSelector = map[string]string{}
		}
		// It may narrow what the machine asks for, never widen it (contract).
		if _, asked := spec.NodeSelector[key]; !asked {
			spec.NodeSelector[key] = value
		}
	}
	for i := range spec.Containers {
		if spec.Containers[i].Name == layout.ComputeContainer {
			spec.Containers[i].Image = image
		}
	}
	awayFromSource(spec, vmi)
	return pod
}

func targetName(vmi *v1.VirtualMachineInstance, m *v1.VirtualMachineInstanceMigration) string {
	sum := sha256.Sum256([]byte(m.UID))
	suffix := "-" + hex.EncodeToString(sum[:])[:5]
	name := "virt-launcher-" + vmi.Name
	if room := 63 - len(suffix); len(name) > room {
		name = strings.TrimRight(name[:room], "-.")
	}
	return name + suffix
}

// awayFromSource keeps the target off the node where a pod of this VMI runs.
func awayFromSource(spec *corev1.PodSpec, vmi *v1.VirtualMachineInstance) {
	if spec.Affinity == nil {
		spec.Affinity = &corev1.Affinity{}
	}
	if spec.Affinity.PodAntiAffinity == nil {
		spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{}
	}
	anti := spec.Affinity.PodAntiAffinity
	anti.RequiredDuringSchedulingIgnoredDuringExecution = append(anti.RequiredDuringSchedulingIgnoredDuringExecution, corev1.PodAffinityTerm{
		TopologyKey:   corev1.LabelHostname,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{v1.CreatedByLabel: string(vmi.UID)}},
	})
}

// handOver tells the two nodes' agents to move the guest.
func (r *Reconciler) handOver(ctx context.Context, p *pass) error {
	if p.state() != nil {
		r.enter(p, v1.MigrationPreparingTarget)
		return nil
	}
	if p.source == nil || p.target == nil {
		return nil
	}
	if other := p.vmi.Status.MigrationState; other != nil && !other.Completed && !other.Failed {
		p.after = retryAdmission
		return nil
	}
	settings, policy, err := r.settings(ctx, p.vmi)
	if err != nil {
		return err
	}
	next := p.vmi.DeepCopy()
	next.Status.MigrationState = &v1.VirtualMachineInstanceMigrationState{
		MigrationUID: p.migration.UID, Mode: v1.MigrationPreCopy,
		SourceNode: p.source.Spec.NodeName, SourcePod: p.source.Name,
		TargetNode: p.target.Spec.NodeName, TargetPod: p.target.Name,
		VMIMConfigurationOptions: settings, MigrationPolicyName: policy,
	}
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	next.Labels[v1.MigrationTargetNodeNameLabel] = p.target.Spec.NodeName
	wrote, err := r.vmis.Patch(ctx, p.vmi, next)
	if err != nil || !wrote || next.ResourceVersion == p.vmi.ResourceVersion {
		return err
	}
	p.vmi = next
	r.enter(p, v1.MigrationPreparingTarget)
	return nil
}
