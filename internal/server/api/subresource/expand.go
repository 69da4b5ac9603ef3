package subresource

import (
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"virtctl/internal/reply"
	"virtctl/internal/server/api/admission/schema"
)

// expandSpec gives a stored VM with its instance type and preference applied.
func (s *Server) expandSpec(r *request) error {
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	return s.expanded(r, vm)
}

// expandBody does the same for a VM that need not exist.
func (s *Server) expandBody(r *request) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return apierrors.NewBadRequest("empty request body")
	}
	raw := body
	if !json.Valid(raw) {
		if raw, err = yaml.YAMLToJSON(body); err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("Can not unmarshal Request body to struct, error: %s", err))
		}
	}
	vm := &v1.VirtualMachine{}
	if causes := schema.Check(raw, vm); len(causes) > 0 {
		return invalidObject(causes)
	}
	if err := json.Unmarshal(raw, vm); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("Can not unmarshal Request body to struct, error: %s", err))
	}
	if vm.Namespace != "" && vm.Namespace != r.namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("VM namespace must be empty or %s", r.namespace))
	}
	vm.Namespace = r.namespace
	return s.expanded(r, vm)
}

func invalidObject(causes []metav1.StatusCause) error {
	err := apierrors.NewBadRequest("Object is not a valid VirtualMachine")
	err.ErrStatus.Details = &metav1.StatusDetails{Causes: causes}
	return err
}

func (s *Server) expanded(r *request, vm *v1.VirtualMachine) error {
	out, err := s.Expander.Expand(r.Context(), vm)
	if err != nil {
		return err
	}
	out.APIVersion, out.Kind = v1.GroupVersion.String(), "VirtualMachine"
	out.ManagedFields = nil
	reply.JSON(r.ResponseWriter, http.StatusOK, out)
	return nil
}
