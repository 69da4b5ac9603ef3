// Package review judges CDI's objects when they are created, changed and deleted. The words of its refusals are the public
// contract: scripts and other programs read them.
package review

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/reply"
)

// Server has what the reviewers need. All fields are required.
type Server struct {
	Client client.Client
	// Sign makes the token that stands for the permission to clone from a source.
	Sign func(source, target Object) (string, error)
}

// Object names the source of a clone, or the claim that is cloned into.
type Object struct {
	Resource        metav1.GroupVersionResource
	Namespace, Name string
}

// Handlers gives the handler of every webhook by its path.
func (s *Server) Handlers() map[string]http.Handler {
	out := map[string]http.Handler{}
	for path, j := range map[string]reply.Judge{
		"/datavolume-mutate":       s.mutateDataVolume,
		"/datavolume-validate":     s.validateDataVolume,
		"/cdi-validate":            s.validateCDI,
		"/objecttransfer-validate": s.validateTransfer,
		"/dataimportcron-validate": s.validateCron,
		"/populator-validate":      s.validatePopulator,
		"/pvc-mutate":              s.mutateClaim,
	} {
		out[path] = reply.Review(j)
	}
	return out
}

// decode reads the object of a request, and the one before it when it is changed.
func decode(r *admissionv1.AdmissionRequest, object, old any) error {
	if err := json.Unmarshal(r.Object.Raw, object); err != nil {
		return fmt.Errorf("decode the object: %w", err)
	}
	if r.Operation != admissionv1.Update {
		return nil
	}
	if err := json.Unmarshal(r.OldObject.Raw, old); err != nil {
		return fmt.Errorf("decode the object before the update: %w", err)
	}
	return nil
}

// cause is one thing wrong with an object.
func cause(kind metav1.CauseType, where *field.Path, format string, args ...any) []metav1.StatusCause {
	at := ""
	if where != nil {
		at = where.String()
	}
	return []metav1.StatusCause{{Type: kind, Message: fmt.Sprintf(format, args...), Field: at}}
}

func invalid(where *field.Path, format string, args ...any) []metav1.StatusCause {
	return cause(metav1.CauseTypeFieldValueInvalid, where, format, args...)
}

// denied refuses an object for what is in its fields.
func denied(causes []metav1.StatusCause) *admissionv1.AdmissionResponse {
	if len(causes) == 0 {
		return nil
	}
	messages := make([]string, 0, len(causes))
	for _, c := range causes {
		messages = append(messages, c.Message)
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: strings.Join(messages, ", "), Details: &metav1.StatusDetails{Causes: causes},
	}}
}

// failed refuses an object for another reason. An error that has a status keeps it.
func failed(err error) *admissionv1.AdmissionResponse {
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		status := known.Status()
		status.Message = err.Error()
		return &admissionv1.AdmissionResponse{Result: &status}
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: err.Error(),
	}}
}

// operation is one operation of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// patched allows an object with changes.
func patched(operations ...operation) *admissionv1.AdmissionResponse {
	data, err := json.Marshal(operations)
	if err != nil {
		return failed(fmt.Errorf("encode the changes: %w", err))
	}
	kind := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: data, PatchType: &kind}
}

func (s *Server) get(ctx context.Context, namespace, name string, into client.Object) error {
	return s.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
}

// tooLong refuses names that what is made from an object could not have.
func tooLong(name string, most int) []metav1.StatusCause {
	if len(name) > most {
		return invalid(nil, "Name cannot be longer than %d characters", most)
	}
	return nil
}
