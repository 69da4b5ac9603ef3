package get

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"
	instancetypev1beta1 "kubevirt.io/api/instancetype/v1beta1"

	"virtctl/internal/client"
	"virtctl/internal/commands/output"
)

// views are all types that can be listed.
func views() []view {
	return []view{
		vms(), vmis(), migrations(), nodes(), volumes(), disks(), dataVolumes(), dataSources(), importCrons(), storageProfiles(),
		instancetypes("VirtualMachineInstancetype", "instancetypes", "vmf", false),
		instancetypes("VirtualMachineClusterInstancetype", "clusterinstancetypes", "vmcf", true),
		preferences("VirtualMachinePreference", "preferences", "vmp", false),
		preferences("VirtualMachineClusterPreference", "clusterpreferences", "vmcp", true),
		installations(),
	}
}

func find(word string) (view, bool) {
	word, _, _ = strings.Cut(strings.ToLower(word), ".")
	for _, v := range views() {
		for _, name := range v.words() {
			if name == word {
				return v, true
			}
		}
	}
	return nil, false
}

func typeNames() []string {
	var names []string
	for _, v := range views() {
		names = append(names, v.words()[0])
	}
	return names
}

func typeHelp() string {
	var b strings.Builder
	for _, v := range views() {
		fmt.Fprintf(&b, "  %-22s %s (also %s)\n", v.words()[0], v.kind().Kind, strings.Join(v.words()[1:], ", "))
	}
	return strings.TrimRight(b.String(), "\n")
}

// hosted counts the machines of each node.
func hosted(ctx context.Context, q *query) any {
	count := map[string]int{}
	list, err := q.client.VMIs("").List(ctx, client.ListOptions{})
	if err != nil {
		return count
	}
	for _, vmi := range list.Items {
		count[vmi.Status.NodeName]++
	}
	return count
}

func nodes() view {
	type node = corev1.Node
	return typed[node]{
		what: client.Kind{Version: "v1", Kind: "Node", Plural: "nodes", Singular: "node", Cluster: true}, names: []string{"nodes", "node", "no"},
		lookUp: hosted,
		columns: []column[node]{
			{"NAME", false, func(n *node, _ *facts) string { return n.Name }},
			{"READY", false, func(n *node, _ *facts) string { return nodeReady(n) }},
			{"RUNS-VMS", false, func(n *node, _ *facts) string {
				return title(n.Labels[kubevirtv1.NodeSchedulable] == "true" && !n.Spec.Unschedulable)
			}},
			{"VMS", false, func(n *node, in *facts) string { return strconv.Itoa(in.extra.(map[string]int)[n.Name]) }},
			{"KVM", false, func(n *node, _ *facts) string {
				kvm := n.Status.Allocatable["devices.kubevirt.io/kvm"]
				return title(kvm.Value() > 0)
			}},
			{"CPU", true, func(n *node, _ *facts) string { return size(n.Status.Allocatable[corev1.ResourceCPU]) }},
			{"MEMORY", true, func(n *node, _ *facts) string { return roughly(n.Status.Allocatable[corev1.ResourceMemory]) }},
			{"IP", true, func(n *node, _ *facts) string { return nodeAddress(n) }},
			{"RUNTIME", true, func(n *node, _ *facts) string { return or(n.Status.NodeInfo.ContainerRuntimeVersion) }},
			{"VERSION", true, func(n *node, _ *facts) string { return or(n.Status.NodeInfo.KubeletVersion) }},
			{"AGE", false, func(n *node, in *facts) string { return output.Age(n.CreationTimestamp, in.q.now) }},
		},
	}
}

func nodeReady(n *corev1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return string(c.Status)
		}
	}
	return string(corev1.ConditionUnknown)
}

func nodeAddress(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return unknown
}

func volumes() view {
	type claim = corev1.PersistentVolumeClaim
	return typed[claim]{
		what: client.Core("PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim"), names: []string{"pvcs", "pvc", "persistentvolumeclaim", "persistentvolumeclaims"},
		columns: []column[claim]{
			{"NAME", false, func(p *claim, _ *facts) string { return p.Name }},
			{"STATUS", false, func(p *claim, _ *facts) string { return or(string(p.Status.Phase)) }},
			{"CAPACITY", false, func(p *claim, _ *facts) string { return capacity(p) }},
			{"ACCESS", false, func(p *claim, _ *facts) string { return access(p.Spec.AccessModes) }},
			{"MODE", true, func(p *claim, _ *facts) string {
				if p.Spec.VolumeMode == nil {
					return string(corev1.PersistentVolumeFilesystem)
				}
				return string(*p.Spec.VolumeMode)
			}},
			{"STORAGE-CLASS", false, func(p *claim, _ *facts) string {
				if p.Spec.StorageClassName == nil {
					return unknown
				}
				return or(*p.Spec.StorageClassName)
			}},
			{"VOLUME", true, func(p *claim, _ *facts) string { return or(p.Spec.VolumeName) }},
			{"AGE", false, func(p *claim, in *facts) string { return output.Age(p.CreationTimestamp, in.q.now) }},
		},
	}
}

func capacity(p *corev1.PersistentVolumeClaim) string {
	for _, list := range []corev1.ResourceList{p.Status.Capacity, p.Spec.Resources.Requests} {
		if q, ok := list[corev1.ResourceStorage]; ok {
			return size(q)
		}
	}
	return unknown
}

func access(modes []corev1.PersistentVolumeAccessMode) string {
	var short []string
	for _, m := range modes {
		short = append(short, map[corev1.PersistentVolumeAccessMode]string{
			corev1.ReadWriteOnce: "RWO", corev1.ReadWriteMany: "RWX", corev1.ReadOnlyMany: "ROX", corev1.ReadWriteOncePod: "RWOP",
		}[m])
	}
	return or(strings.Join(short, ","))
}

func instancetypes(kind, word, short string, cluster bool) view {
	type instancetype = instancetypev1beta1.VirtualMachineInstancetype
	plural := strings.ToLower(kind) + "s"
	return typed[instancetype]{
		what: client.Kind{
			Group: "instancetype.kubevirt.io", Version: "v1beta1", Kind: kind, Plural: plural, Singular: strings.ToLower(kind), Cluster: cluster,
		},
		names: []string{word, strings.TrimSuffix(word, "s"), short, strings.ToLower(kind), plural},
		columns: []column[instancetype]{
			{"NAME", false, func(i *instancetype, _ *facts) string { return i.Name }},
			{"CPU", false, func(i *instancetype, _ *facts) string { return strconv.Itoa(int(i.Spec.CPU.Guest)) }},
			{"MEMORY", false, func(i *instancetype, _ *facts) string { return size(i.Spec.Memory.Guest) }},
			{"AGE", false, func(i *instancetype, in *facts) string { return output.Age(i.CreationTimestamp, in.q.now) }},
		},
	}
}

func preferences(kind, word, short string, cluster bool) view {
	type preference = instancetypev1beta1.VirtualMachinePreference
	plural := strings.ToLower(kind) + "s"
	return typed[preference]{
		what: client.Kind{
			Group: "instancetype.kubevirt.io", Version: "v1beta1", Kind: kind, Plural: plural, Singular: strings.ToLower(kind), Cluster: cluster,
		},
		names: []string{word, strings.TrimSuffix(word, "s"), short, strings.ToLower(kind), plural},
		columns: []column[preference]{
			{"NAME", false, func(p *preference, _ *facts) string { return p.Name }},
			{"AGE", false, func(p *preference, in *facts) string { return output.Age(p.CreationTimestamp, in.q.now) }},
		},
	}
}

func installations() view {
	type kubevirt = kubevirtv1.KubeVirt
	return typed[kubevirt]{
		what: client.KubeVirt(), names: []string{"kubevirts", "kubevirt", "kv", "kvs"},
		columns: []column[kubevirt]{
			{"NAME", false, func(k *kubevirt, _ *facts) string { return k.Name }},
			{"PHASE", false, func(k *kubevirt, _ *facts) string { return or(string(k.Status.Phase)) }},
			{"VERSION", false, func(k *kubevirt, _ *facts) string { return or(k.Status.ObservedKubeVirtVersion) }},
			{"AGE", false, func(k *kubevirt, in *facts) string { return output.Age(k.CreationTimestamp, in.q.now) }},
		},
	}
}
