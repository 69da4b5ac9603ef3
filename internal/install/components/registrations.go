package components

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// SubresourceVersions are the versions of the aggregated API group.
var SubresourceVersions = []string{"v1", "v1alpha3"}

// Registrations is what makes the API server call ours. They are applied after the workloads, with the CA they trust.
func Registrations(o Options, webhooks []runtime.Object) []runtime.Object {
	out := append([]runtime.Object{operatorWebhook(o)}, webhooks...)
	for _, version := range SubresourceVersions {
		out = append(out, apiService(o, version))
	}
	return out
}

func apiService(o Options, version string) runtime.Object {
	port := int32(443)
	return &apiregistrationv1.APIService{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiregistration.k8s.io/v1", Kind: "APIService"},
		ObjectMeta: o.clusterMeta(version+".subresources.kubevirt.io", APIName),
		Spec: apiregistrationv1.APIServiceSpec{
			Group: "subresources.kubevirt.io", Version: version, GroupPriorityMinimum: 1000, VersionPriority: 15,
			CABundle: o.CABundle,
			Service:  &apiregistrationv1.ServiceReference{Namespace: o.Namespace, Name: "virt-api", Port: &port},
		},
	}
}

// operatorWebhook guards the KubeVirt resource. It ignores failures on create: the first resource must get in while the operator
// is still starting. On delete it is asked only when the resource wants virtual machines to block its removal.
func operatorWebhook(o Options) runtime.Object {
	hook := func(name, path string, operation admissionv1.OperationType) admissionv1.ValidatingWebhook {
		policy, effects, timeout := admissionv1.Ignore, admissionv1.SideEffectClassNone, int32(10)
		var conditions []admissionv1.MatchCondition
		if operation == admissionv1.Delete {
			policy = admissionv1.Fail
			conditions = []admissionv1.MatchCondition{{
				Name:       "blocked-by-workloads",
				Expression: "has(oldObject.spec.uninstallStrategy) && oldObject.spec.uninstallStrategy == 'BlockUninstallIfWorkloadsExist'",
			}}
		}
		return admissionv1.ValidatingWebhook{
			Name: name, FailurePolicy: &policy, SideEffects: &effects, TimeoutSeconds: &timeout,
			AdmissionReviewVersions: list("v1"), MatchConditions: conditions,
			ClientConfig: admissionv1.WebhookClientConfig{
				CABundle: o.CABundle,
				Service:  &admissionv1.ServiceReference{Namespace: o.Namespace, Name: "kubevirt-operator-webhook", Path: &path},
			},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{operation},
				Rule:       admissionv1.Rule{APIGroups: list("kubevirt.io"), APIVersions: list("v1", "v1alpha3"), Resources: list("kubevirts")},
			}},
		}
	}
	return &admissionv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: o.clusterMeta("virt-operator-validator", OperatorName),
		Webhooks: []admissionv1.ValidatingWebhook{
			hook("kubevirt-validator.kubevirt.io", "/kubevirt-validate-delete", admissionv1.Delete),
			hook("kubevirt-create-validator.kubevirt.io", "/kubevirt-validate-create", admissionv1.Create),
		},
	}
}
