// Package admission is the one table of the admission webhooks virt-api serves. The HTTP multiplexer and the webhook
// configurations that the operator installs are made from it.
package admission

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names of the webhook configurations and of the service behind them.
const (
	MutatorName   = "virt-api-mutator"
	ValidatorName = "virt-api-validator"
	ServiceName   = "virt-api"
)

const timeoutSeconds = 10

// Hook is one webhook.
type Hook struct {
	Name, Path string
	Mutating   bool
	Rule       admissionv1.Rule
	Operations []admissionv1.OperationType
	// SideEffects is None unless the webhook writes.
	SideEffects admissionv1.SideEffectClass
	// Condition limits the objects by a CEL expression; empty means all.
	Condition string
	Handler   Handler
}

// Handler names what answers a webhook.
type Handler string

// The handlers.
const (
	MutateVM           Handler = "MutateVM"
	MutateVMI          Handler = "MutateVMI"
	MutateMigration    Handler = "MutateMigration"
	ValidateVM         Handler = "ValidateVM"
	ValidateVMICreate  Handler = "ValidateVMICreate"
	ValidateVMIUpdate  Handler = "ValidateVMIUpdate"
	ValidateReplicaSet Handler = "ValidateReplicaSet"
	ValidatePreset     Handler = "ValidatePreset"
	ValidateMigration  Handler = "ValidateMigration"
	ValidateMigUpdate  Handler = "ValidateMigrationUpdate"
	ValidateStatus     Handler = "ValidateStatus"
	ValidateEviction   Handler = "ValidateEviction"
	// ValidateHotplugEviction judges the pods that hold hotplugged volumes.
	ValidateHotplugEviction Handler = "ValidateHotplugEviction"
	ValidateMigrationPolicy Handler = "ValidateMigrationPolicy"
)

// Hooks gives every webhook.
func Hooks() []Hook {
	create := []admissionv1.OperationType{admissionv1.Create}
	update := []admissionv1.OperationType{admissionv1.Update}
	both := []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
	eviction := Hook{
		Name: "virt-launcher-eviction-interceptor.kubevirt.io", Path: "/pod-eviction-validate",
		Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods/eviction"}},
		Operations: create, SideEffects: admissionv1.SideEffectClassNoneOnDryRun,
		Condition: `object.metadata.name.startsWith("virt-launcher")`,
		Handler:   ValidateEviction,
	}
	hotplug := eviction
	hotplug.Name, hotplug.Path = "hotplug-pod-eviction-interceptor.kubevirt.io", "/hotplug-pod-eviction-validate"
	hotplug.Condition = `object.metadata.name.startsWith("hp-volume-")`
	hotplug.SideEffects, hotplug.Handler = admissionv1.SideEffectClassNone, ValidateHotplugEviction
	policy := validating("migration-policy-validator", "/migration-policy-validate-create", ValidateMigrationPolicy, both, "migrationpolicies")
	policy.Rule.APIGroups, policy.Rule.APIVersions = []string{"migrations.kubevirt.io"}, []string{"v1alpha1"}
	return []Hook{
		mutating("virtualmachines-mutator", "/virtualmachines-mutate", MutateVM, both, "virtualmachines"),
		mutating("virtualmachineinstances-mutator", "/virtualmachineinstances-mutate", MutateVMI, both, "virtualmachineinstances"),
		mutating("migrations-mutator", "/migration-mutate-create", MutateMigration, create, "virtualmachineinstancemigrations"),

		validating("virtualmachine-validator", "/virtualmachines-validate", ValidateVM, both, "virtualmachines"),
		validating("virtualmachineinstances-create-validator", "/virtualmachineinstances-validate-create", ValidateVMICreate,
			create, "virtualmachineinstances"),
		validating("virtualmachineinstances-update-validator", "/virtualmachineinstances-validate-update", ValidateVMIUpdate,
			update, "virtualmachineinstances"),
		validating("virtualmachinereplicaset-validator", "/virtualmachinereplicaset-validate", ValidateReplicaSet,
			both, "virtualmachineinstancereplicasets"),
		validating("virtualmachinepreset-validator", "/vmipreset-validate", ValidatePreset, both, "virtualmachineinstancepresets"),
		validating("migration-create-validator", "/migration-validate-create", ValidateMigration,
			create, "virtualmachineinstancemigrations"),
		validating("migration-update-validator", "/migration-validate-update", ValidateMigUpdate,
			update, "virtualmachineinstancemigrations"),
		validating("kubevirt-crd-status-validator", "/status-validate", ValidateStatus, both,
			"virtualmachines/status", "virtualmachineinstancereplicasets/status", "virtualmachineinstancemigrations/status"),
		policy, eviction, hotplug,
	}
}

func mutating(name, path string, h Handler, on []admissionv1.OperationType, resources ...string) Hook {
	hook := validating(name, path, h, on, resources...)
	hook.Mutating = true
	return hook
}

func validating(name, path string, h Handler, on []admissionv1.OperationType, resources ...string) Hook {
	return Hook{
		Name: name + ".kubevirt.io", Path: path, Handler: h, Operations: on, SideEffects: admissionv1.SideEffectClassNone,
		Rule: admissionv1.Rule{APIGroups: []string{"kubevirt.io"}, APIVersions: []string{"v1alpha3", "v1"}, Resources: resources},
	}
}

// Configurations are the webhook configurations to install.
type Configurations struct {
	Mutating   *admissionv1.MutatingWebhookConfiguration
	Validating *admissionv1.ValidatingWebhookConfiguration
}

// Webhooks gives the webhook configurations for a platform installed in the namespace. caBundle signs the certificate of the
// service virt-api.
func Webhooks(namespace string, caBundle []byte) Configurations {
	c := Configurations{
		Mutating: &admissionv1.MutatingWebhookConfiguration{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
			ObjectMeta: metadata(MutatorName),
		},
		Validating: &admissionv1.ValidatingWebhookConfiguration{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
			ObjectMeta: metadata(ValidatorName),
		},
	}
	for _, h := range Hooks() {
		if h.Mutating {
			c.Mutating.Webhooks = append(c.Mutating.Webhooks, mutatingWebhook(h, namespace, caBundle))
		} else {
			c.Validating.Webhooks = append(c.Validating.Webhooks, validatingWebhook(h, namespace, caBundle))
		}
	}
	return c
}

func metadata(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubevirt.io": name}}
}

func mutatingWebhook(h Hook, namespace string, ca []byte) admissionv1.MutatingWebhook {
	v := validatingWebhook(h, namespace, ca)
	return admissionv1.MutatingWebhook{
		Name: v.Name, ClientConfig: v.ClientConfig, Rules: v.Rules, FailurePolicy: v.FailurePolicy, SideEffects: v.SideEffects,
		TimeoutSeconds: v.TimeoutSeconds, AdmissionReviewVersions: v.AdmissionReviewVersions, MatchConditions: v.MatchConditions,
		MatchPolicy: v.MatchPolicy,
	}
}

func validatingWebhook(h Hook, namespace string, ca []byte) admissionv1.ValidatingWebhook {
	path, port, seconds := h.Path, int32(443), int32(timeoutSeconds)
	fail, equivalent := admissionv1.Fail, admissionv1.Equivalent
	rule := admissionv1.RuleWithOperations{Rule: h.Rule, Operations: h.Operations}
	switch h.Rule.APIGroups[0] {
	case "":
	case "migrations.kubevirt.io":
		scope := admissionv1.ClusterScope
		rule.Scope = &scope
	default:
		scope := admissionv1.NamespacedScope
		rule.Scope = &scope
	}
	w := admissionv1.ValidatingWebhook{
		Name: h.Name,
		ClientConfig: admissionv1.WebhookClientConfig{
			Service:  &admissionv1.ServiceReference{Namespace: namespace, Name: ServiceName, Path: &path, Port: &port},
			CABundle: ca,
		},
		Rules:                   []admissionv1.RuleWithOperations{rule},
		FailurePolicy:           &fail,
		MatchPolicy:             &equivalent,
		SideEffects:             &h.SideEffects,
		TimeoutSeconds:          &seconds,
		AdmissionReviewVersions: []string{"v1"},
	}
	if h.Condition != "" {
		w.MatchConditions = []admissionv1.MatchCondition{{Name: "name", Expression: h.Condition}}
	}
	return w
}
