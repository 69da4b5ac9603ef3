package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/storage"
)

const fieldManager = "virt-kube"

// object is one thing that every cluster has.
type object struct {
	resource schema.GroupVersionResource
	value    runtime.Object
}

// objects are applied at every start.
func objects(c plan.Cluster) []object {
	rbac := rbacv1.SchemeGroupVersion
	out := []object{
		{rbac.WithResource("clusterroles"), dnsRole()},
		{rbac.WithResource("clusterrolebindings"), dnsBinding()},
		{corev1.SchemeGroupVersion.WithResource("services"), dnsService(c)},
	}
	for i, g := range c.Gateway {
		out = append(out, object{discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), dnsEndpoints(g.Addr().String(), i)})
	}
	for _, class := range storage.Classes() {
		out = append(out, object{storagev1.SchemeGroupVersion.WithResource("storageclasses"), class})
	}
	return out
}

func dnsRole() *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: "virt-kube:coredns"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"services", "namespaces", "endpoints", "pods"}, Verbs: []string{"list", "watch"}},
			{APIGroups: []string{discoveryv1.GroupName}, Resources: []string{"endpointslices"}, Verbs: []string{"list", "watch"}},
		},
	}
}

func dnsBinding() *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: "virt-kube:coredns"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "virt-kube:coredns"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "system:coredns"}},
	}
}

const dnsName = "kube-dns"

// dnsService has no selector: CoreDNS runs on the host, the slices below say where.
func dnsService(c plan.Cluster) *corev1.Service {
	s := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{
			Name: dnsName, Namespace: metav1.NamespaceSystem,
			Labels: map[string]string{"k8s-app": dnsName, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: c.DNSService[0].String(),
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53},
			},
		},
	}
	policy := corev1.IPFamilyPolicySingleStack
	for _, a := range c.DNSService {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, a.String())
		family := corev1.IPv4Protocol
		if a.Is6() {
			family, policy = corev1.IPv6Protocol, corev1.IPFamilyPolicyRequireDualStack
		}
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, family)
	}
	s.Spec.IPFamilyPolicy = &policy
	return s
}

func dnsEndpoints(address string, family int) *discoveryv1.EndpointSlice {
	kind := []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}[family]
	return &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: discoveryv1.SchemeGroupVersion.String(), Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-host-%d", dnsName, family), Namespace: metav1.NamespaceSystem,
			Labels: map[string]string{discoveryv1.LabelServiceName: dnsName, discoveryv1.LabelManagedBy: "virt-kube"},
		},
		AddressType: kind,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		Ports: []discoveryv1.EndpointPort{
			{Name: new("dns"), Protocol: new(corev1.ProtocolUDP), Port: new(int32(53))},
			{Name: new("dns-tcp"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(53))},
		},
	}
}

// applyObjects brings the cluster's own objects to what this version wants.
func applyObjects(ctx context.Context, config *rest.Config, c plan.Cluster) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("connect to the API server: %w", err)
	}
	for _, o := range objects(c) {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o.value)
		if err != nil {
			return fmt.Errorf("encode object: %w", err)
		}
		u := &unstructured.Unstructured{Object: content}
		unstructured.RemoveNestedField(u.Object, "status")
		unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
		accessor, err := meta.Accessor(o.value)
		if err != nil {
			return fmt.Errorf("encode object: %w", err)
		}
		var target dynamic.ResourceInterface = client.Resource(o.resource)
		if ns := accessor.GetNamespace(); ns != "" {
			target = client.Resource(o.resource).Namespace(ns)
		}
		options := metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
		if _, err := target.Apply(ctx, accessor.GetName(), u, options); err != nil {
			return fmt.Errorf("apply %s %s: %w", o.resource.Resource, accessor.GetName(), err)
		}
	}
	return nil
}

// nodeRanges tells the API which pod ranges a node has, and its role.
func nodeRanges(ctx context.Context, client kubernetes.Interface, node *corev1.Node, c plan.Cluster) error {
	n, err := c.Node(node.Name)
	if err != nil || len(node.Spec.PodCIDRs) > 0 {
		return nil // not a node of ours, or done
	}
	var ranges []string
	for _, p := range n.PodCIDRs {
		ranges = append(ranges, p.String())
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"podCIDR": ranges[0], "podCIDRs": ranges}})
	if err != nil {
		return fmt.Errorf("encode pod ranges: %w", err)
	}
	_, err = client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("write the pod ranges of %s: %w", node.Name, err)
	}
	return nil
}
