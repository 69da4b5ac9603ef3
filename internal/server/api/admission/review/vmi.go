package review

import (
	"context"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/api/admission/rules"
)

// nodeNameClaim is what Kubernetes puts into the identity of a token that is bound to a pod.
const nodeNameClaim = "authentication.kubernetes.io/node-name"

func (s *Server) validateVMIUpdate(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	vmi, old := &v1.VirtualMachineInstance{}, &v1.VirtualMachineInstance{}
	if refused := decode(r, vmi, old); refused != nil {
		return refused
	}
	account := s.account(r)
	config := s.Config.Get()
	if account == accountHandler && config.Gate(clusterconfig.GateNodeRestriction) {
		node, err := s.agentsNode(ctx, r, old)
		if err != nil {
			return failed(err)
		}
		if causes := rules.AgentUpdate(old, vmi, node); len(causes) > 0 {
			return denied(causes)
		}
		return nil
	}
	if causes := rules.VMIUpdate(old, vmi, config, account != ""); len(causes) > 0 {
		return denied(causes)
	}
	return nil
}

// agentsNode gives the node of the agent that asks, if that may write the VMI: it runs there, migrates there, or its pod is
// there and the agent is the first to say so.
func (s *Server) agentsNode(ctx context.Context, r *admissionv1.AdmissionRequest, vmi *v1.VirtualMachineInstance) (string, error) {
	claims := r.UserInfo.Extra[nodeNameClaim]
	if len(claims) != 1 || claims[0] == "" {
		return "", forbidden(vmi, "Node restriction, the token of virt-handler is not bound to a node")
	}
	node := claims[0]
	owners := rules.Agents(vmi)
	if slices.Contains(owners, node) {
		return node, nil
	}
	if vmi.Status.NodeName == "" {
		here, err := s.launcherOn(ctx, vmi, node)
		if err != nil || here {
			return node, err
		}
	}
	return "", forbidden(vmi, "Node restriction, virt-handler is only allowed to modify VMIs it owns")
}

func forbidden(vmi *v1.VirtualMachineInstance, message string) error {
	return apierrors.NewForbidden(v1.Resource("virtualmachineinstances"), vmi.Name, fmt.Errorf("%s", message))
}

// launcherOn tells whether a pod of the VMI runs on the node. A pod belongs to a VMI by its controller's UID; the label only
// makes the search cheap.
func (s *Server) launcherOn(ctx context.Context, vmi *v1.VirtualMachineInstance, node string) (bool, error) {
	pods := &corev1.PodList{}
	err := s.Client.List(ctx, pods, client.InNamespace(vmi.Namespace), client.MatchingLabels{v1.CreatedByLabel: string(vmi.UID)})
	if err != nil {
		return false, fmt.Errorf("look for the VMI's pod: %w", err)
	}
	return slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool {
		return p.Spec.NodeName == node && metav1.IsControlledBy(&p, vmi)
	}), nil
}
