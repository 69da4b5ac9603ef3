package review

import (
	"context"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/server/api/admission/presets"
)

// preset fills a new VMI with the presets that select it, and gives what to warn its creator of. The API server is asked and no cache:
// a manifest may bring a preset and its VMI.
func (s *Server) preset(ctx context.Context, namespace string, vmi *v1.VirtualMachineInstance) ([]string, *admissionv1.AdmissionResponse) {
	list := &v1.VirtualMachineInstancePresetList{}
	err := s.Client.List(ctx, list, client.InNamespace(namespace))
	switch {
	case meta.IsNoMatchError(err) || apierrors.IsNotFound(err):
		// The kind is not there yet: the platform is being upgraded.
		return nil, nil
	case err != nil:
		return nil, failed(fmt.Errorf("look for presets: %w", err))
	}
	if len(list.Items) == 0 {
		return nil, nil
	}
	// A manifest may leave its namespace to the request.
	named := vmi.Namespace
	vmi.Namespace = namespace
	warnings, err := presets.Apply(vmi, list.Items)
	vmi.Namespace = named
	if err != nil {
		return nil, &admissionv1.AdmissionResponse{Result: &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: err.Error(),
		}}
	}
	return warnings, nil
}
