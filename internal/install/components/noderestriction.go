package components

import (
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"virtctl/internal/nodelease"
)

const nodeName = "request.userInfo.extra['authentication.kubernetes.io/node-name'][0]"

// NodeRestriction keeps a taken-over node from taking the cluster: a virt-handler may write only its own Node, there only
// labels and annotations of ours, only VMIs that run or are about to run on that node (CVE-2023-26484, CVE-2025-64436), and of leases
// only that node's.
func NodeRestriction(o Options) []runtime.Object {
	user := fmt.Sprintf("request.userInfo.username == 'system:serviceaccount:%s:kubevirt-handler'", o.Namespace)
	nodes := policy(o, "kubevirt-node-restriction-policy", user, list(""), list("v1"), list("nodes", "nodes/status"), []admissionv1.Validation{
		{Expression: "'authentication.kubernetes.io/node-name' in request.userInfo.extra", Message: "the token of this virt-handler names no node"},
		{Expression: "object.metadata.name == " + nodeName, Message: "a virt-handler may change only the node it runs on"},
		{Expression: "object.spec == oldObject.spec", Message: "a virt-handler may not change a node's spec"},
		{Expression: ourKeysOnly("labels"), Message: "a virt-handler may change only kubevirt.io labels of its node"},
		{Expression: ourKeysOnly("annotations"), Message: "a virt-handler may change only kubevirt.io annotations of its node"},
	})
	vmis := policy(o, "kubevirt-vmi-node-restriction-policy", user, list("kubevirt.io"), list("v1", "v1alpha3"), list("virtualmachineinstances"), []admissionv1.Validation{
		{Expression: "'authentication.kubernetes.io/node-name' in request.userInfo.extra", Message: "the token of this virt-handler names no node"},
		{
			Expression: onOwnNode("oldObject") + " || ((!has(oldObject.status) || !has(oldObject.status.nodeName) || oldObject.status.nodeName == '') && " + onOwnNode("object") + ")",
			Message:    "a virt-handler may change only virtual machine instances on its own node",
		},
		{Expression: "object.spec == oldObject.spec", Message: "a virt-handler may not change a virtual machine instance's spec"},
	})
	return append(append(nodes, vmis...), leaseRestriction(o, user)...)
}

// leaseRestriction keeps a virt-handler from speaking for another node, and from the platform's other leases: who leads.
func leaseRestriction(o Options, user string) []runtime.Object {
	leases := policy(o, "kubevirt-lease-restriction-policy", user, list("coordination.k8s.io"), list("v1"), list("leases"), []admissionv1.Validation{
		{Expression: "'authentication.kubernetes.io/node-name' in request.userInfo.extra", Message: "the token of this virt-handler names no node"},
		{
			Expression: "has(object.spec.holderIdentity) && object.spec.holderIdentity == " + nodeName + " && (object.metadata.name == '" + nodelease.Prefix + "' + " + nodeName +
				" || (size(" + nodeName + ") > 240 && object.metadata.name.startsWith('" + nodelease.Prefix + "')))",
			Message: "a virt-handler may write only the lease of the node it runs on",
		},
	})
	for _, obj := range leases {
		if p, ok := obj.(*admissionv1.ValidatingAdmissionPolicy); ok {
			for i := range p.Spec.MatchConstraints.ResourceRules {
				p.Spec.MatchConstraints.ResourceRules[i].Operations = []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
			}
		}
	}
	return leases
}

func onOwnNode(object string) string {
	status := object + ".status"
	return fmt.Sprintf("(has(%[1]s) && ((has(%[1]s.nodeName) && %[1]s.nodeName == %[2]s) || "+
		"(has(%[1]s.migrationState) && has(%[1]s.migrationState.targetNode) && %[1]s.migrationState.targetNode == %[2]s)))", status, nodeName)
}

// ourKeysOnly holds when every key that appears, vanishes or changes its value is one of ours.
func ourKeysOnly(field string) string {
	now, before := "object.metadata."+field, "oldObject.metadata."+field
	part := func(a, b string) string {
		return fmt.Sprintf("(!has(%[1]s) || %[1]s.all(k, k.contains('kubevirt.io') || k == 'cpumanager' || (has(%[2]s) && k in %[2]s && %[1]s[k] == %[2]s[k])))", a, b)
	}
	return part(now, before) + " && " + part(before, now)
}

func policy(o Options, name, user string, groups, versions, resources []string, rules []admissionv1.Validation) []runtime.Object {
	fail := admissionv1.Fail
	return []runtime.Object{
		&admissionv1.ValidatingAdmissionPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy"},
			ObjectMeta: o.clusterMeta(name, HandlerName),
			Spec: admissionv1.ValidatingAdmissionPolicySpec{
				FailurePolicy:   &fail,
				MatchConditions: []admissionv1.MatchCondition{{Name: "virt-handler", Expression: user}},
				MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
					RuleWithOperations: admissionv1.RuleWithOperations{
						Operations: []admissionv1.OperationType{admissionv1.Update},
						Rule:       admissionv1.Rule{APIGroups: groups, APIVersions: versions, Resources: resources},
					},
				}}},
				Validations: rules,
			},
		},
		&admissionv1.ValidatingAdmissionPolicyBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicyBinding"},
			ObjectMeta: o.clusterMeta(name+"-binding", HandlerName),
			Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			},
		},
	}
}
