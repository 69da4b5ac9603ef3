package subresource

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

// check says whether the state of a VMI allows a request.
type check func(*v1.VirtualMachineInstance) error

// ask passes a request on to the node agent once the VMI's state allows it.
func (s *Server) ask(r *request, verb string, body any, dryRun []string, allowed ...check) error {
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	for _, c := range allowed {
		if err := c(vmi); err != nil {
			return err
		}
	}
	if err := checkDryRun(dryRun); err != nil {
		return err
	}
	if len(dryRun) == 0 {
		payload, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request for the node agent: %w", err)
		}
		if err := s.Node.Put(r.Context(), vmi, verb, payload); err != nil {
			return err
		}
	}
	r.WriteHeader(http.StatusOK)
	return nil
}

func checkDryRun(values []string) error {
	if i := slices.IndexFunc(values, func(v string) bool { return v != metav1.DryRunAll }); i >= 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("dryRun: %q is not supported; the only value is %q", values[i], metav1.DryRunAll))
	}
	return nil
}

func running(vmi *v1.VirtualMachineInstance) error {
	if vmi.Status.Phase != v1.Running {
		return vmiConflict(vmi.Name, vmiNotRunning)
	}
	return nil
}

func notPaused(vmi *v1.VirtualMachineInstance) error {
	if vmiCondition(vmi, v1.VirtualMachineInstancePaused) {
		return vmiConflict(vmi.Name, vmiPaused)
	}
	return nil
}

func agentConnected(vmi *v1.VirtualMachineInstance) error {
	if !vmiCondition(vmi, v1.VirtualMachineInstanceAgentConnected) {
		return vmiConflict(vmi.Name, agentMissing)
	}
	return nil
}

func (s *Server) pause(r *request) error {
	opts := v1.PauseOptions{}
	if err := options(r, &opts); err != nil {
		return err
	}
	return s.ask(r, "pause", opts, opts.DryRun, running, func(vmi *v1.VirtualMachineInstance) error {
		if vmiCondition(vmi, v1.VirtualMachineInstancePaused) {
			return vmiConflict(vmi.Name, "VMI is already paused")
		}
		if p := vmi.Spec.LivenessProbe; p != nil && p.GuestAgentPing == nil {
			// A paused guest would be restarted for not answering.
			return apierrors.NewForbidden(v1.Resource("virtualmachineinstance"), vmi.Name,
				fmt.Errorf("Pausing VMIs with LivenessProbe is currently not supported")) //nolint:revive,staticcheck // contract
		}
		return nil
	})
}

func (s *Server) unpause(r *request) error {
	opts := v1.UnpauseOptions{}
	if err := options(r, &opts); err != nil {
		return err
	}
	snapshot := func(vmi *v1.VirtualMachineInstance) error {
		vm := &v1.VirtualMachine{}
		err := s.Client.Get(r.Context(), r.key(), vm)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return fmt.Errorf("get VM %s/%s: %w", r.namespace, r.name, err)
		case vm.Status.SnapshotInProgress != nil && metav1.IsControlledBy(vmi, vm):
			return vmiConflict(vmi.Name, snapshotRunning)
		}
		return nil
	}
	return s.ask(r, "unpause", opts, opts.DryRun, snapshot, running, func(vmi *v1.VirtualMachineInstance) error {
		if !vmiCondition(vmi, v1.VirtualMachineInstancePaused) {
			return vmiConflict(vmi.Name, vmiNotPaused)
		}
		return nil
	})
}

func (s *Server) freeze(r *request) error {
	opts := v1.FreezeUnfreezeTimeout{}
	if err := options(r, &opts); err != nil {
		return err
	}
	if opts.UnfreezeTimeout != nil && opts.UnfreezeTimeout.Duration < 0 {
		return apierrors.NewBadRequest("unfreezeTimeout has to be greater or equal to 0")
	}
	return s.ask(r, "freeze", opts, nil, running)
}

func (s *Server) unfreeze(r *request) error {
	return s.ask(r, "unfreeze", struct{}{}, nil, running)
}

func (s *Server) reset(r *request) error {
	return s.ask(r, "reset", struct{}{}, nil, func(vmi *v1.VirtualMachineInstance) error {
		if vmi.Status.Phase != v1.Running {
			return vmiConflict(vmi.Name, "Failed to reset non-running VMI with phase %s", vmi.Status.Phase)
		}
		return nil
	})
}

func (s *Server) softReboot(r *request) error {
	return s.ask(r, "softreboot", struct{}{}, nil, running, notPaused, func(vmi *v1.VirtualMachineInstance) error {
		if vmiCondition(vmi, v1.VirtualMachineInstanceAgentConnected) || acpi(vmi) {
			return nil
		}
		return vmiConflict(vmi.Name, "VMI neither have the agent connected nor the ACPI feature enabled")
	})
}

func acpi(vmi *v1.VirtualMachineInstance) bool {
	f := vmi.Spec.Domain.Features
	return f == nil || f.ACPI.Enabled == nil || *f.ACPI.Enabled
}
