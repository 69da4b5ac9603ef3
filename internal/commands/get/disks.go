package get

import (
	"context"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
	"virtctl/internal/commands/output"
	"virtctl/internal/commands/volume"
)

func dataVolumes() view {
	type dataVolume = cdiv1.DataVolume
	return typed[dataVolume]{
		what:  client.DataVolume(),
		names: []string{"dvs", "dv", "datavolume", "datavolumes"},
		columns: []column[dataVolume]{
			{"NAME", false, func(v *dataVolume, _ *facts) string { return v.Name }},
			{"PHASE", false, func(v *dataVolume, _ *facts) string { return or(string(v.Status.Phase)) }},
			{"PROGRESS", false, func(v *dataVolume, _ *facts) string { return or(string(v.Status.Progress)) }},
			{"RESTARTS", false, func(v *dataVolume, _ *facts) string { return strconv.Itoa(int(v.Status.RestartCount)) }},
			{"SOURCE", true, func(v *dataVolume, _ *facts) string { return volume.Source(v) }},
			{"SIZE", true, func(v *dataVolume, _ *facts) string { return volume.Size(v) }},
			{"AGE", false, func(v *dataVolume, in *facts) string { return output.Age(v.CreationTimestamp, in.q.now) }},
			{"WHY", true, func(v *dataVolume, _ *facts) string {
				return or(strings.Join(volume.FromConditions(volume.State{DV: v}), "; "))
			}},
		},
	}
}

// users is what is known about the disks of a namespace besides their claims.
type users struct {
	volumes map[string]*cdiv1.DataVolume
	// machines by namespace/claim.
	machines map[string][]string
}

// lookUpUsers finds the data volumes and the machines of the claims; who may not read them sees the claims alone.
func lookUpUsers(ctx context.Context, q *query) any {
	found := users{volumes: map[string]*cdiv1.DataVolume{}, machines: map[string][]string{}}
	if dvs, err := q.client.DataVolumes(q.namespace).List(ctx, client.ListOptions{}); err == nil {
		for i := range dvs.Items {
			found.volumes[dvs.Items[i].Namespace+"/"+dvs.Items[i].Name] = &dvs.Items[i]
		}
	}
	vms, err := q.client.VMs(q.namespace).List(ctx, client.ListOptions{})
	if err != nil {
		return found
	}
	for _, vm := range vms.Items {
		if vm.Spec.Template == nil {
			continue
		}
		for _, v := range vm.Spec.Template.Spec.Volumes {
			claim := ""
			switch {
			case v.PersistentVolumeClaim != nil:
				claim = v.PersistentVolumeClaim.ClaimName
			case v.DataVolume != nil:
				claim = v.DataVolume.Name
			}
			if key := vm.Namespace + "/" + claim; claim != "" && !slices.Contains(found.machines[key], vm.Name) {
				found.machines[key] = append(found.machines[key], vm.Name)
			}
		}
	}
	return found
}

func (u users) state(p *corev1.PersistentVolumeClaim) volume.State {
	return volume.State{DV: u.volumes[p.Namespace+"/"+p.Name], Claim: p}
}

// disks are claims as what machines use them for.
func disks() view {
	type claim = corev1.PersistentVolumeClaim
	base := volumes().(typed[claim])
	base.names, base.lookUp = []string{"disks", "disk"}, lookUpUsers
	base.columns = []column[claim]{
		{"NAME", false, func(p *claim, _ *facts) string { return p.Name }},
		{"PHASE", false, func(p *claim, in *facts) string { return or(in.extra.(users).state(p).Phase()) }},
		{"SIZE", false, func(p *claim, _ *facts) string { return capacity(p) }},
		{"ACCESS", false, func(p *claim, _ *facts) string { return access(p.Spec.AccessModes) }},
		{"MODE", false, func(p *claim, in *facts) string {
			if in.extra.(users).state(p).Block() {
				return string(corev1.PersistentVolumeBlock)
			}
			return string(corev1.PersistentVolumeFilesystem)
		}},
		{"STORAGE-CLASS", true, func(p *claim, _ *facts) string {
			if p.Spec.StorageClassName == nil {
				return unknown
			}
			return or(*p.Spec.StorageClassName)
		}},
		{"CONTENT", true, func(p *claim, _ *facts) string { return or(p.Annotations[names.AnnContentDigest]) }},
		{"USED-BY", false, func(p *claim, in *facts) string {
			return or(strings.Join(in.extra.(users).machines[p.Namespace+"/"+p.Name], ","))
		}},
		{"AGE", false, func(p *claim, in *facts) string { return output.Age(p.CreationTimestamp, in.q.now) }},
	}
	return base
}

func dataSources() view {
	type source = cdiv1.DataSource
	return typed[source]{
		what: client.DataSource(), names: []string{"datasources", "das", "datasource"},
		columns: []column[source]{
			{"NAME", false, func(s *source, _ *facts) string { return s.Name }},
			{"READY", false, func(s *source, _ *facts) string { return sourceReady(s, false) }},
			{"SOURCE", false, func(s *source, _ *facts) string { return sourceOf(s) }},
			{"INSTANCETYPE", true, func(s *source, _ *facts) string { return or(s.Labels[names.LabelDefaultInstancetype]) }},
			{"PREFERENCE", true, func(s *source, _ *facts) string { return or(s.Labels[names.LabelDefaultPreference]) }},
			{"AGE", false, func(s *source, in *facts) string { return output.Age(s.CreationTimestamp, in.q.now) }},
			{"WHY", true, func(s *source, _ *facts) string { return or(sourceReady(s, true)) }},
		},
	}
}

// sourceReady is the Ready condition's status, or the reason when it is not true.
func sourceReady(s *cdiv1.DataSource, why bool) string {
	for _, c := range s.Status.Conditions {
		if c.Type != cdiv1.DataSourceReady {
			continue
		}
		switch {
		case !why:
			return string(c.Status)
		case c.Status != corev1.ConditionTrue:
			return strings.TrimSpace(c.Message + " (" + c.Reason + ")")
		}
		return ""
	}
	if why {
		return ""
	}
	return string(corev1.ConditionUnknown)
}

func sourceOf(s *cdiv1.DataSource) string {
	switch source := s.Spec.Source; {
	case source.PVC != nil:
		return "pvc " + source.PVC.Namespace + "/" + source.PVC.Name
	case source.Snapshot != nil:
		return "snapshot " + source.Snapshot.Namespace + "/" + source.Snapshot.Name
	case source.DataSource != nil:
		return "datasource " + source.DataSource.Namespace + "/" + source.DataSource.Name
	}
	return unknown
}

func importCrons() view {
	type cron = cdiv1.DataImportCron
	return typed[cron]{
		what: client.DataImportCron(), names: []string{"dataimportcrons", "dic", "dics", "dataimportcron"},
		columns: []column[cron]{
			{"NAME", false, func(c *cron, _ *facts) string { return c.Name }},
			{"UP-TO-DATE", false, func(c *cron, _ *facts) string {
				for _, condition := range c.Status.Conditions {
					if condition.Type == cdiv1.DataImportCronUpToDate {
						return string(condition.Status)
					}
				}
				return string(corev1.ConditionUnknown)
			}},
			{"SCHEDULE", false, func(c *cron, _ *facts) string { return or(c.Spec.Schedule) }},
			{"DATASOURCE", false, func(c *cron, _ *facts) string { return or(c.Spec.ManagedDataSource) }},
			{"AGE", false, func(c *cron, in *facts) string { return output.Age(c.CreationTimestamp, in.q.now) }},
		},
	}
}

func storageProfiles() view {
	type profile = cdiv1.StorageProfile
	return typed[profile]{
		what: client.StorageProfile(), names: []string{"storageprofiles", "storageprofile"},
		columns: []column[profile]{
			{"NAME", false, func(p *profile, _ *facts) string { return p.Name }},
			{"PROVISIONER", false, func(p *profile, _ *facts) string {
				if p.Status.Provisioner == nil {
					return unknown
				}
				return *p.Status.Provisioner
			}},
			{"PREFERS", false, func(p *profile, _ *facts) string {
				all := volume.Sets(p)
				return or(strings.Join(all[:min(1, len(all))], ""))
			}},
			{"ALL", true, func(p *profile, _ *facts) string { return or(strings.Join(volume.Sets(p), " ")) }},
			{"CLONE", false, func(p *profile, _ *facts) string {
				if p.Status.CloneStrategy == nil {
					return unknown
				}
				return string(*p.Status.CloneStrategy)
			}},
			{"AGE", false, func(p *profile, in *facts) string { return output.Age(p.CreationTimestamp, in.q.now) }},
		},
	}
}
