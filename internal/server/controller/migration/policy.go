package migration

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	migrationsv1alpha1 "kubevirt.io/api/migrations/v1alpha1"

	"virtctl/internal/clusterconfig"
)

type policy = migrationsv1alpha1.MigrationPolicy

// settings are what a migration of the VMI runs with to its end, whatever becomes of the cluster's configuration and its policies; and
// the policy that had a say in it, nil if none had.
func (r *Reconciler) settings(ctx context.Context, vmi *v1.VirtualMachineInstance) (*v1.VMIMConfigurationOptions, *string, error) {
	c := r.Config.Get().Migration
	var all migrationsv1alpha1.MigrationPolicyList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil, nil, fmt.Errorf("list the migration policies: %w", err)
	}
	if len(all.Items) == 0 {
		return effective(c), nil, nil
	}
	namespace := &corev1.Namespace{}
	if err := r.Live.Get(ctx, types.NamespacedName{Name: vmi.Namespace}, namespace); err != nil {
		return nil, nil, fmt.Errorf("read the labels of namespace %s: %w", vmi.Namespace, err)
	}
	found := match(all.Items, vmi.Labels, namespace.Labels)
	if found == nil {
		return effective(c), nil, nil
	}
	return effective(override(c, &found.Spec)), &found.Name, nil
}

// match gives the policy that names most of the labels; among equals the first by name (contract).
func match(all []policy, vmi, namespace map[string]string) *policy {
	type candidate struct {
		policy *policy
		labels int
	}
	var matching []candidate
	for i := range all {
		s := all[i].Spec.Selectors
		if s != nil && contains(vmi, s.VirtualMachineInstanceSelector) && contains(namespace, s.NamespaceSelector) {
			matching = append(matching, candidate{&all[i], len(s.VirtualMachineInstanceSelector) + len(s.NamespaceSelector)})
		}
	}
	if len(matching) == 0 {
		return nil
	}
	return slices.MinFunc(matching, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.labels, a.labels), cmp.Compare(a.policy.Name, b.policy.Name))
	}).policy
}

func contains(labels, wanted map[string]string) bool {
	for key, value := range wanted {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// override gives the cluster's settings with the policy's in their place.
func override(c clusterconfig.Migration, p *migrationsv1alpha1.MigrationPolicySpec) clusterconfig.Migration {
	take(&c.AllowAutoConverge, p.AllowAutoConverge)
	take(&c.Bandwidth, p.BandwidthPerMigration)
	take(&c.CompletionSecondsPerGiB, p.CompletionTimeoutPerGiB)
	take(&c.MaxDowntimeMillis, p.MaxDowntimeMs)
	take(&c.AllowPostCopy, p.AllowPostCopy)
	take(&c.AllowWorkloadDisruption, p.AllowPostCopy) // as in the cluster's configuration, unless the policy says more
	take(&c.AllowWorkloadDisruption, p.AllowWorkloadDisruption)
	return c
}

func take[T any](into *T, from *T) {
	if from != nil {
		*into = *from
	}
}

func effective(m clusterconfig.Migration) *v1.VMIMConfigurationOptions {
	bandwidth := m.Bandwidth.DeepCopy()
	out := &v1.VMIMConfigurationOptions{
		AllowAutoConverge: &m.AllowAutoConverge, AllowPostCopy: &m.AllowPostCopy, AllowWorkloadDisruption: &m.AllowWorkloadDisruption,
		BandwidthPerMigration: &bandwidth, CompletionTimeoutPerGiB: &m.CompletionSecondsPerGiB, ProgressTimeout: &m.ProgressSeconds,
		MaxDowntimeMs: &m.MaxDowntimeMillis, UnsafeMigrationOverride: &m.UnsafeOverride, DisableTLS: &m.DisableTLS,
	}
	if m.Network != "" {
		out.Network = &m.Network
	}
	return out
}
