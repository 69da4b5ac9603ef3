package reply

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// maxReview is two objects as large as etcd takes, with room to spare.
const maxReview = 16 << 20

// Judge judges one admission request. It returns nil to allow it as it is.
type Judge func(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// Review makes an admission webhook's handler of a judge.
func Review(judge Judge) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
		if err != nil {
			Error(w, apierrors.NewBadRequest(fmt.Sprintf("read the admission review: %s", err)))
			return
		}
		review := admissionv1.AdmissionReview{}
		if err := json.Unmarshal(body, &review); err != nil || review.Request == nil {
			Error(w, apierrors.NewBadRequest("the body is not an AdmissionReview with a request"))
			return
		}
		answer := judge(r.Context(), review.Request)
		if answer == nil {
			answer = &admissionv1.AdmissionResponse{Allowed: true}
		}
		answer.UID = review.Request.UID
		review.Request, review.Response = nil, answer
		review.APIVersion, review.Kind = admissionv1.SchemeGroupVersion.String(), "AdmissionReview"
		JSON(w, http.StatusOK, review)
	})
}
