// Package reply writes answers the way Kubernetes clients expect them: JSON objects, and Status objects for errors.
package reply

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// JSON answers with an object.
func JSON(w http.ResponseWriter, code int, object any) {
	body, err := json.Marshal(object)
	if err != nil {
		Error(w, fmt.Errorf("encode the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The client is gone when this fails; there is nobody left to tell.
	_, _ = w.Write(body)
}

// Error answers with the Status of an error. An error that has none is an internal one.
func Error(w http.ResponseWriter, err error) {
	status := StatusOf(err)
	JSON(w, int(status.Code), status)
}

// StatusOf gives the Status of an error.
func StatusOf(err error) *metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	if status.Code == 0 {
		status.Code = http.StatusInternalServerError
	}
	return &status
}
