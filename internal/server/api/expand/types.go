package expand

import (
	"context"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/instancetype"
)

// Types is the Expander that reads instance types and preferences from the cluster.
type Types struct {
	Reader client.Reader
	Config *clusterconfig.Source
}

// Applies is true for every VM whose references are settled: one that is still to be inferred from a volume is not.
func (Types) Applies(vm *v1.VirtualMachine) bool {
	it, p := vm.Spec.Instancetype, vm.Spec.Preference
	return (it == nil || it.InferFromVolume == "") && (p == nil || p.InferFromVolume == "")
}

// Expand gives a copy of the VM with what it refers to applied and the references removed.
func (t Types) Expand(ctx context.Context, vm *v1.VirtualMachine) (*v1.VirtualMachine, error) {
	out := vm.DeepCopy()
	if out.Spec.Template == nil || (vm.Spec.Instancetype == nil && vm.Spec.Preference == nil) {
		return out, nil
	}
	types, err := instancetype.Resolve(ctx, t.Reader, vm)
	if err != nil {
		return nil, missing(vm, err)
	}
	root := field.NewPath("spec", "template", "spec")
	template := out.Spec.Template
	if clashes := types.Conflicts(root, &template.Spec); len(clashes) > 0 {
		return nil, conflicts(clashes)
	}
	if err := types.Attach(&template.Spec, t.Config.Get()); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	types.Apply(&template.ObjectMeta, &template.Spec)
	if unmet := types.Unmet(root, &template.Spec); len(unmet) > 0 {
		return nil, invalid("failure checking preference requirements: "+unmet.ToAggregate().Error(), causes(unmet))
	}
	out.Spec.Instancetype, out.Spec.Preference = nil, nil
	return out, nil
}

// missing names the field of the reference that leads nowhere.
func missing(vm *v1.VirtualMachine, err error) error {
	path := "spec.instancetype"
	if vm.Spec.Instancetype == nil {
		path = "spec.preference"
	}
	message := fmt.Sprintf("Failure to find instancetype or preference: %v", err)
	kind := metav1.CauseTypeFieldValueInvalid
	if apierrors.IsNotFound(err) {
		kind = metav1.CauseTypeFieldValueNotFound
	}
	return invalid(message, []metav1.StatusCause{{Type: kind, Field: path, Message: message}})
}

// IsMissing tells that Expand failed because something that the VM refers to does not exist: it may come later.
func IsMissing(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeFieldValueNotFound)
}

func conflicts(paths []*field.Path) error {
	var out []metav1.StatusCause
	for _, path := range paths {
		out = append(out, metav1.StatusCause{
			Type: metav1.CauseTypeFieldValueInvalid, Field: path.String(),
			Message: fmt.Sprintf("VM field(s) %s conflicts with selected instance type", path), // the text is contract
		})
	}
	return invalid(out[0].Message, out)
}

func causes(list field.ErrorList) []metav1.StatusCause {
	var out []metav1.StatusCause
	for _, e := range list {
		out = append(out, metav1.StatusCause{
			Type: metav1.CauseTypeFieldValueInvalid, Field: e.Field, Message: "failure checking preference requirements: " + e.ErrorBody(),
		})
	}
	return out
}

func invalid(message string, causes []metav1.StatusCause) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: message,
		Details: &metav1.StatusDetails{Causes: causes},
	}}
}
