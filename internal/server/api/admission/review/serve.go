// Package review answers admission reviews with the defaults and the rules.
package review

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxMessages is how many causes the text of an answer names; all are in its details.
const maxMessages = 10

// denied refuses an object for what is in its fields.
func denied(causes []metav1.StatusCause) *admissionv1.AdmissionResponse {
	messages := make([]string, 0, maxMessages)
	for _, c := range causes[:min(len(causes), maxMessages)] {
		messages = append(messages, c.Message)
	}
	text := strings.Join(messages, ", ")
	if more := len(causes) - maxMessages; more > 0 {
		text += fmt.Sprintf(", and %d more validation errors", more)
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: text, Details: &metav1.StatusDetails{Causes: causes},
	}}
}

// failed refuses an object for another reason. An error that has a status keeps it.
func failed(err error) *admissionv1.AdmissionResponse {
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		status := known.Status()
		return &admissionv1.AdmissionResponse{Result: &status}
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: err.Error(),
	}}
}

// tooMany is how an eviction is put off.
func tooMany(message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests, Message: message,
	}}
}

// operation is one operation of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// patched allows an object with changes.
func patched(operations []operation) *admissionv1.AdmissionResponse {
	if len(operations) == 0 {
		return nil
	}
	data, err := json.Marshal(operations)
	if err != nil {
		return failed(fmt.Errorf("encode the defaults: %w", err))
	}
	kind := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: data, PatchType: &kind}
}
