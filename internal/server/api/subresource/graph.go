package subresource

import (
	"net/http"
	"strconv"
	"strings"

	k8sv1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	v1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/instancetype"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/reply"
)

// dependencyLabel says what a node of the graph is for, so that clients can select.
const dependencyLabel = "kubevirt.io/dependency-type"

func (s *Server) vmGraph(r *request) error {
	opts, err := s.graphOptions(r)
	if err != nil {
		return err
	}
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	g := graph{namespace: vm.Namespace}
	root := g.node("kubevirt.io", "VirtualMachine", vm.Name, "")
	if m := vm.Spec.Instancetype; m != nil {
		root.Children = append(root.Children, g.matcher(m.Kind, m.Name, instancetype.ClusterSingularResourceName))
	}
	if m := vm.Spec.Preference; m != nil {
		root.Children = append(root.Children, g.matcher(m.Kind, m.Name, instancetype.ClusterSingularPreferenceResourceName))
	}
	vmi, err := s.findVMI(r.Context(), r.key())
	switch {
	case err != nil:
		return err
	case vmi != nil:
		child := g.optional(g.node("kubevirt.io", "VirtualMachineInstance", vmi.Name, "compute"))
		root.Children = append(root.Children, child)
	}
	if vm.Spec.Template != nil {
		root.Children = append(root.Children, g.spec(&vm.Spec.Template.Spec)...)
	}
	return answerGraph(r, root, opts)
}

func (s *Server) vmiGraph(r *request) error {
	opts, err := s.graphOptions(r)
	if err != nil {
		return err
	}
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	g := graph{namespace: vmi.Namespace}
	root := g.node("kubevirt.io", "VirtualMachineInstance", vmi.Name, "")
	root.Children = g.spec(&vmi.Spec)
	return answerGraph(r, root, opts)
}

type graphFilter struct {
	optional bool
	selector labels.Selector
}

// graphOptions come from the query, or from a body when there is one.
func (s *Server) graphOptions(r *request) (graphFilter, error) {
	filter := graphFilter{optional: true, selector: labels.Everything()}
	if !s.Config.Get().Gate(clusterconfig.GateObjectGraph) {
		return filter, apierrors.NewBadRequest("ObjectGraph feature gate not enabled: Unable to return object graph.")
	}
	opts := v1.ObjectGraphOptions{}
	if err := options(r, &opts); err != nil {
		return filter, err
	}
	if q := r.URL.Query().Get("includeOptionalNodes"); q != "" {
		include, err := strconv.ParseBool(q)
		if err != nil {
			return filter, apierrors.NewBadRequest("includeOptionalNodes is neither true nor false: " + q)
		}
		opts.IncludeOptionalNodes = &include
	}
	if q := r.URL.Query().Get("labelSelector"); q != "" {
		parsed, err := metav1.ParseToLabelSelector(q)
		if err != nil {
			return filter, apierrors.NewBadRequest("labelSelector: " + err.Error())
		}
		opts.LabelSelector = parsed
	}
	if opts.IncludeOptionalNodes != nil {
		filter.optional = *opts.IncludeOptionalNodes
	}
	if opts.LabelSelector != nil {
		selector, err := metav1.LabelSelectorAsSelector(opts.LabelSelector)
		if err != nil {
			return filter, apierrors.NewBadRequest("labelSelector: " + err.Error())
		}
		filter.selector = selector
	}
	return filter, nil
}

func answerGraph(r *request, root v1.ObjectGraphNode, filter graphFilter) error {
	root.Kind, root.APIVersion = "ObjectGraphNode", v1.GroupVersion.String()
	root.Children = filter.apply(root.Children)
	reply.JSON(r.ResponseWriter, http.StatusOK, root)
	return nil
}

func (f graphFilter) apply(nodes []v1.ObjectGraphNode) []v1.ObjectGraphNode {
	var kept []v1.ObjectGraphNode
	for _, n := range nodes {
		if n.Optional != nil && *n.Optional && !f.optional {
			continue
		}
		if !f.selector.Matches(labels.Set(n.Labels)) {
			continue
		}
		n.Children = f.apply(n.Children)
		kept = append(kept, n)
	}
	return kept
}

// graph makes the nodes of one VM's graph. Everything that a VM uses lives in its namespace, or in none.
type graph struct{ namespace string }

func (g graph) node(group, kind, name, dependency string) v1.ObjectGraphNode {
	n := v1.ObjectGraphNode{ObjectReference: k8sv1.TypedObjectReference{Kind: kind, Name: name, Namespace: &g.namespace}}
	if group != "" {
		n.ObjectReference.APIGroup = &group
	}
	if dependency != "" {
		n.Labels = map[string]string{dependencyLabel: dependency}
	}
	return n
}

func (g graph) optional(n v1.ObjectGraphNode) v1.ObjectGraphNode {
	yes := true
	n.Optional = &yes
	return n
}

func (g graph) matcher(kind, name, byDefault string) v1.ObjectGraphNode {
	if kind == "" {
		kind = byDefault
	}
	n := g.node("instancetype.kubevirt.io", kind, name, "compute")
	if strings.HasPrefix(strings.ToLower(kind), "virtualmachinecluster") {
		n.ObjectReference.Namespace = nil
	}
	return n
}

func (g graph) spec(spec *v1.VirtualMachineInstanceSpec) []v1.ObjectGraphNode {
	var out []v1.ObjectGraphNode
	for i := range spec.Volumes {
		out = append(out, g.volume(&spec.Volumes[i])...)
	}
	for _, n := range spec.Networks {
		if n.Multus != nil {
			out = append(out, g.node("k8s.cni.cncf.io", "NetworkAttachmentDefinition", n.Multus.NetworkName, "network"))
		}
	}
	for _, a := range spec.AccessCredentials {
		switch {
		case a.SSHPublicKey != nil && a.SSHPublicKey.Source.Secret != nil:
			out = append(out, g.node("", "Secret", a.SSHPublicKey.Source.Secret.SecretName, "config"))
		case a.UserPassword != nil && a.UserPassword.Source.Secret != nil:
			out = append(out, g.node("", "Secret", a.UserPassword.Source.Secret.SecretName, "config"))
		}
	}
	return out
}

func (g graph) volume(v *v1.Volume) []v1.ObjectGraphNode {
	claim := func(name string) v1.ObjectGraphNode { return g.node("", "PersistentVolumeClaim", name, "storage") }
	secret := func(ref *k8sv1.LocalObjectReference) []v1.ObjectGraphNode {
		if ref == nil {
			return nil
		}
		return []v1.ObjectGraphNode{g.node("", "Secret", ref.Name, "config")}
	}
	switch {
	case v.DataVolume != nil:
		n := g.node("cdi.kubevirt.io", "DataVolume", v.DataVolume.Name, "storage")
		n.Children = []v1.ObjectGraphNode{claim(v.DataVolume.Name)}
		return []v1.ObjectGraphNode{n}
	case v.PersistentVolumeClaim != nil:
		return []v1.ObjectGraphNode{claim(v.PersistentVolumeClaim.ClaimName)}
	case v.Ephemeral != nil && v.Ephemeral.PersistentVolumeClaim != nil:
		return []v1.ObjectGraphNode{claim(v.Ephemeral.PersistentVolumeClaim.ClaimName)}
	case v.MemoryDump != nil:
		return []v1.ObjectGraphNode{claim(v.MemoryDump.ClaimName)}
	case v.ConfigMap != nil:
		return []v1.ObjectGraphNode{g.node("", "ConfigMap", v.ConfigMap.Name, "config")}
	case v.Secret != nil:
		return []v1.ObjectGraphNode{g.node("", "Secret", v.Secret.SecretName, "config")}
	case v.ServiceAccount != nil:
		return []v1.ObjectGraphNode{g.node("", "ServiceAccount", v.ServiceAccount.ServiceAccountName, "config")}
	case v.Sysprep != nil && v.Sysprep.ConfigMap != nil:
		return []v1.ObjectGraphNode{g.node("", "ConfigMap", v.Sysprep.ConfigMap.Name, "config")}
	case v.Sysprep != nil:
		return secret(v.Sysprep.Secret)
	case v.CloudInitNoCloud != nil:
		return append(secret(v.CloudInitNoCloud.UserDataSecretRef), secret(v.CloudInitNoCloud.NetworkDataSecretRef)...)
	case v.CloudInitConfigDrive != nil:
		return append(secret(v.CloudInitConfigDrive.UserDataSecretRef), secret(v.CloudInitConfigDrive.NetworkDataSecretRef)...)
	case v.ContainerDisk != nil && v.ContainerDisk.ImagePullSecret != "":
		return []v1.ObjectGraphNode{g.node("", "Secret", v.ContainerDisk.ImagePullSecret, "config")}
	default:
		return nil
	}
}
