// Package hooks is the one table of cdi-apiserver's admission webhooks. The HTTP multiplexer and the webhook
// configurations that cdi-operator installs are made from it.
package hooks

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"virtctl/internal/cdi/names"
)

const timeoutSeconds = 30

// Hook is one webhook. Each has a configuration of its own, as the public contract has it.
type Hook struct {
	// Config is the configuration's name, Name the webhook's.
	Config, Name, Path string
	Mutating           bool
	Resources          []string
	Operations         []admissionv1.OperationType
	// Optional webhooks do not stop what they judge when nobody answers.
	Optional bool
	// Condition limits the objects by a CEL expression; empty means all.
	Condition string
	// Group and Version are the API's, when it is not CDI's: then Version is set.
	Group, Version string
	// Labels limits the objects by their labels.
	Labels map[string]string
}

// clones are the DataVolumes whose creator needs a permission elsewhere. A specification never changes, and so creation is
// the one moment to ask. An object without a specification is left to the schema, which says so.
const clones = "has(object.spec) && (has(object.spec.sourceRef) || " +
	"(has(object.spec.source) && (has(object.spec.source.pvc) || has(object.spec.source.snapshot))))"

// All gives every webhook.
func All() []Hook {
	create := []admissionv1.OperationType{admissionv1.Create}
	both := []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
	return []Hook{
		{
			Config: "cdi-api-datavolume-mutate", Name: "datavolume-mutate.cdi.kubevirt.io", Path: "/datavolume-mutate",
			Mutating: true, Resources: []string{"datavolumes"}, Operations: create, Condition: clones,
		},
		{
			Config: "cdi-api-datavolume-validate", Name: "datavolume-validate.cdi.kubevirt.io", Path: "/datavolume-validate",
			Resources: []string{"datavolumes"}, Operations: both,
		},
		{
			Config: "cdi-api-validate", Name: "cdi-validate.cdi.kubevirt.io", Path: "/cdi-validate",
			Resources: []string{"cdis"}, Operations: []admissionv1.OperationType{admissionv1.Delete}, Optional: true,
		},
		{
			Config: "objecttransfer-api-validate", Name: "objecttransfer-validate.cdi.kubevirt.io", Path: "/objecttransfer-validate",
			Resources: []string{"objecttransfers"}, Operations: both,
		},
		{
			Config: "cdi-api-dataimportcron-validate", Name: "dataimportcron-validate.cdi.kubevirt.io", Path: "/dataimportcron-validate",
			Resources: []string{"dataimportcrons"}, Operations: both,
		},
		{
			Config: "cdi-api-populator-validate", Name: "populator-validate.cdi.kubevirt.io", Path: "/populator-validate",
			Resources: []string{"volumeimportsources", "volumeuploadsources"}, Operations: both,
		},
		{
			Config: PVCMutate, Name: "pvc-mutate.cdi.kubevirt.io", Path: "/pvc-mutate", Mutating: true,
			Version: "v1", Resources: []string{"persistentvolumeclaims"}, Operations: create,
			Labels: map[string]string{names.LabelApplyStorageProfile: "true"},
		},
	}
}

// PVCMutate is the configuration of the webhook that fills claims from their class's StorageProfile. It is installed unless the
// configuration's webhookPvcRendering is RenderingDisabled.
const (
	PVCMutate         = "cdi-api-pvc-mutate"
	RenderingDisabled = "Disabled"
)

// Configuration makes the webhook's configuration for a platform in the namespace. ca signs the certificate of the service
// cdi-api.
func (h Hook) Configuration(meta metav1.ObjectMeta, namespace string, ca []byte) runtime.Object {
	meta.Name = h.Config
	if h.Mutating {
		return &admissionv1.MutatingWebhookConfiguration{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
			ObjectMeta: meta, Webhooks: []admissionv1.MutatingWebhook{h.mutating(namespace, ca)},
		}
	}
	return &admissionv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: meta, Webhooks: []admissionv1.ValidatingWebhook{h.validating(namespace, ca)},
	}
}

func (h Hook) validating(namespace string, ca []byte) admissionv1.ValidatingWebhook {
	port, seconds, scope := int32(443), int32(timeoutSeconds), admissionv1.AllScopes
	policy, match, effects := admissionv1.Fail, admissionv1.Exact, admissionv1.SideEffectClassNone
	if h.Optional {
		policy = admissionv1.Ignore
	}
	group, version := "cdi.kubevirt.io", "v1beta1"
	if h.Version != "" {
		group, version = h.Group, h.Version
	}
	w := admissionv1.ValidatingWebhook{
		Name: h.Name,
		ClientConfig: admissionv1.WebhookClientConfig{
			CABundle: ca,
			Service:  &admissionv1.ServiceReference{Namespace: namespace, Name: names.ServiceAPI, Path: &h.Path, Port: &port},
		},
		Rules: []admissionv1.RuleWithOperations{{
			Operations: h.Operations,
			Rule: admissionv1.Rule{
				APIGroups: []string{group}, APIVersions: []string{version}, Resources: h.Resources, Scope: &scope,
			},
		}},
		FailurePolicy: &policy, MatchPolicy: &match, SideEffects: &effects, TimeoutSeconds: &seconds,
		AdmissionReviewVersions: []string{"v1", "v1beta1"},
	}
	if h.Condition != "" {
		w.MatchConditions = []admissionv1.MatchCondition{{Name: "wanted", Expression: h.Condition}}
	}
	if len(h.Labels) > 0 {
		w.ObjectSelector = &metav1.LabelSelector{MatchLabels: h.Labels}
	}
	return w
}

func (h Hook) mutating(namespace string, ca []byte) admissionv1.MutatingWebhook {
	v := h.validating(namespace, ca)
	return admissionv1.MutatingWebhook{
		Name: v.Name, ClientConfig: v.ClientConfig, Rules: v.Rules, FailurePolicy: v.FailurePolicy, MatchPolicy: v.MatchPolicy,
		SideEffects: v.SideEffects, TimeoutSeconds: v.TimeoutSeconds, AdmissionReviewVersions: v.AdmissionReviewVersions,
		MatchConditions: v.MatchConditions, ObjectSelector: v.ObjectSelector,
	}
}
