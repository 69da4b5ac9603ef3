package review

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/reply"
	"virtctl/internal/server/api/admission"
	"virtctl/internal/server/api/admission/schema"
	"virtctl/internal/server/api/expand"
)

// ServiceAccounts of the platform, in the install namespace.
const (
	accountAPI        = "kubevirt-apiserver"
	accountController = "kubevirt-controller"
	accountHandler    = "kubevirt-handler"
)

// Server has what the reviewers need. All fields are required.
type Server struct {
	Client client.Client
	Config *clusterconfig.Source
	// Namespace is where the platform is installed.
	Namespace string
	Expander  expand.Expander
}

// Handlers gives the handler of every webhook.
func (s *Server) Handlers() map[admission.Handler]http.Handler {
	reviewers := map[admission.Handler]reply.Judge{
		admission.MutateVM:           s.mutateVM,
		admission.MutateVMI:          s.mutateVMI,
		admission.MutateMigration:    s.mutateMigration,
		admission.ValidateVM:         s.validateVM,
		admission.ValidateVMICreate:  s.validateVMICreate,
		admission.ValidateVMIUpdate:  s.validateVMIUpdate,
		admission.ValidateReplicaSet: s.validateReplicaSet,
		admission.ValidatePreset:     s.validatePreset,
		admission.ValidateMigration:  s.validateMigration,
		admission.ValidateMigUpdate:  s.validateMigrationUpdate,
		admission.ValidateStatus:     s.validateStatus,
		admission.ValidateEviction:   s.validateEviction,

		admission.ValidateHotplugEviction: s.validateHotplugEviction,
		admission.ValidateMigrationPolicy: validateMigrationPolicy,
	}
	out := make(map[admission.Handler]http.Handler, len(reviewers))
	for name, r := range reviewers {
		out[name] = reply.Review(r)
	}
	return out
}

// account tells which of the platform's ServiceAccounts asks; empty for everybody else.
func (s *Server) account(r *admissionv1.AdmissionRequest) string {
	name, ours := strings.CutPrefix(r.UserInfo.Username, "system:serviceaccount:"+s.Namespace+":")
	if !ours {
		return ""
	}
	switch name {
	case accountAPI, accountController, accountHandler:
		return name
	default:
		return ""
	}
}

// decode reads the object of a request strictly, and the one before it leniently.
func decode(r *admissionv1.AdmissionRequest, object, old any) *admissionv1.AdmissionResponse {
	if causes := schema.Check(r.Object.Raw, object); len(causes) > 0 {
		return denied(causes)
	}
	if err := json.Unmarshal(r.Object.Raw, object); err != nil {
		return failed(fmt.Errorf("decode the object: %w", err))
	}
	if old == nil || r.Operation != admissionv1.Update {
		return nil
	}
	if err := json.Unmarshal(r.OldObject.Raw, old); err != nil {
		return failed(fmt.Errorf("decode the object before the update: %w", err))
	}
	return nil
}

// zeros finds CPU counts that are given as 0. Decoded, they look as if they had been left out, and the guest would get one.
func zeros(raw []byte, at string) []metav1.StatusCause {
	var object any
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil
	}
	path := field.NewPath(at)
	cpu := object
	for _, part := range append(strings.Split(at, "."), "domain", "cpu") {
		m, ok := cpu.(map[string]any)
		if !ok {
			return nil
		}
		cpu = m[part]
	}
	counts, _ := cpu.(map[string]any)
	var causes []metav1.StatusCause
	for _, name := range []string{"sockets", "cores", "threads"} {
		if n, ok := counts[name].(float64); ok && n == 0 {
			where := path.Child("domain", "cpu", name).String()
			causes = append(causes, metav1.StatusCause{
				Type: metav1.CauseTypeFieldValueInvalid, Field: where,
				Message: where + " must be greater than 0; leave it out for the default",
			})
		}
	}
	return causes
}

// warnings of things that work but will not forever.
func vmWarnings(vm *v1.VirtualMachine) []string {
	if vm.Spec.Running != nil {
		return []string{"spec.running is deprecated, please use spec.runStrategy instead."}
	}
	return nil
}

func (s *Server) get(ctx context.Context, namespace, name string, into client.Object) error {
	return s.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
}
