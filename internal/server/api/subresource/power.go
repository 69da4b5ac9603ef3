package subresource

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// start makes a stopped VM run, in the way its run strategy knows.
func (s *Server) start(r *request) error {
	opts := v1.StartOptions{}
	if err := options(r, &opts); err != nil {
		return err
	}
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	vmi, err := s.findVMI(r.Context(), r.key())
	if err != nil {
		return err
	}
	if vmi != nil && !vmi.IsFinal() && vmi.Status.Phase != v1.Unknown && vmi.Status.Phase != v1.VmPhaseUnset {
		return vmConflict(vm.Name, "VM is already running")
	}
	if vmCondition(vm, v1.VirtualMachineManualRecoveryRequired) {
		return vmConflict(vm.Name, volumesRecovery)
	}
	strategy, err := runStrategy(vm)
	if err != nil {
		return err
	}
	begin := v1.VirtualMachineStateChangeRequest{Action: v1.StartRequest}
	if opts.Paused {
		begin.Data = map[string]string{v1.StartRequestDataPausedKey: v1.StartRequestDataPausedTrue}
	}
	switch strategy {
	case v1.RunStrategyHalted:
		if opts.Paused && !startsPaused(vm) {
			// The controller sets the run strategy once it has seen that the VM is to start paused.
			err = s.change(r.Context(), vm, opts.DryRun, begin)
		} else {
			err = s.setRunning(r.Context(), vm, true, opts.DryRun)
		}
	case v1.RunStrategyManual, v1.RunStrategyRerunOnFailure:
		err = s.startManually(r.Context(), vm, vmi, begin, opts.DryRun)
	default:
		err = vmConflict(vm.Name, "%v does not support manual start requests", strategy)
	}
	if err != nil {
		return err
	}
	return accepted(r)
}

func (s *Server) startManually(ctx context.Context, vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance,
	begin v1.VirtualMachineStateChangeRequest, dryRun []string,
) error {
	strategy, _ := vm.RunStrategy()
	rerun := strategy == v1.RunStrategyRerunOnFailure
	switch {
	case rerun && vmi != nil && vmi.Status.Phase == v1.Failed:
		return vmConflict(vm.Name, "%v does not support starting VM from failed state", strategy)
	case vmi != nil && vmi.IsFinal():
		// The instance that ended is in the way of the new one.
		return s.change(ctx, vm, dryRun, stopOf(vmi), begin)
	default:
		return s.change(ctx, vm, dryRun, begin)
	}
}

// stop makes a running VM stop, in the way its run strategy knows.
func (s *Server) stop(r *request) error {
	opts := v1.StopOptions{}
	if err := options(r, &opts); err != nil {
		return err
	}
	if opts.GracePeriod != nil && *opts.GracePeriod < 0 {
		return apierrors.NewBadRequest("gracePeriod has to be greater or equal to 0")
	}
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	vmi, err := s.findVMI(r.Context(), r.key())
	if err != nil {
		return err
	}
	strategy, err := runStrategy(vm)
	if err != nil {
		return err
	}
	runs := vmi != nil && !vmi.IsFinal()
	halted, always := strategy == v1.RunStrategyHalted, strategy == v1.RunStrategyAlways || strategy == v1.RunStrategyOnce
	switch {
	case !runs && !always:
		return vmConflict(vm.Name, vmNotRunning)
	case halted && !shorter(opts.GracePeriod, vmi):
		return vmConflict(vm.Name, "%v only supports manual stop requests with a shorter graceperiod", strategy)
	}
	if opts.GracePeriod != nil && runs {
		if err := s.setGracePeriod(r.Context(), vmi, *opts.GracePeriod, opts.DryRun); err != nil {
			return err
		}
	}
	if always {
		err = s.setRunning(r.Context(), vm, false, opts.DryRun)
	} else {
		err = s.change(r.Context(), vm, opts.DryRun, stopOf(vmi))
	}
	if err != nil {
		return err
	}
	return accepted(r)
}

// restart ends the VM's instance and has a new one started.
func (s *Server) restart(r *request) error {
	opts := v1.RestartOptions{}
	if err := options(r, &opts); err != nil {
		return err
	}
	if g := opts.GracePeriodSeconds; g != nil && *g > 0 {
		return apierrors.NewBadRequest("For force restart, only gracePeriod=0 is supported for now")
	} else if g != nil && *g < 0 {
		return apierrors.NewBadRequest("gracePeriod has to be greater or equal to 0")
	}
	vm, err := s.vm(r)
	if err != nil {
		return err
	}
	if vmCondition(vm, v1.VirtualMachineConditionType(v1.VirtualMachineInstanceVolumesChange)) {
		return vmConflict(vm.Name, volumesRecovery)
	}
	strategy, err := runStrategy(vm)
	if err != nil {
		return err
	}
	if strategy == v1.RunStrategyHalted || strategy == v1.RunStrategyOnce {
		// "RunStategy" is what clients have always been shown.
		return vmConflict(vm.Name, "RunStategy %v does not support manual restart requests", strategy)
	}
	vmi, err := s.findVMI(r.Context(), r.key())
	if err != nil {
		return err
	}
	if vmi == nil {
		return vmConflict(vm.Name, "VM is not running: %v", v1.RunStrategyHalted)
	}
	if len(vm.Status.StateChangeRequests) > 0 {
		return vmConflict(vm.Name, requestsUnderway)
	}
	if err := s.restartVMI(r.Context(), vm, vmi, opts); err != nil {
		return err
	}
	return accepted(r)
}

func (s *Server) restartVMI(ctx context.Context, vm *v1.VirtualMachine, vmi *v1.VirtualMachineInstance, opts v1.RestartOptions) error {
	before := vmi.Spec.TerminationGracePeriodSeconds
	forced := opts.GracePeriodSeconds != nil && !vmi.IsFinal()
	if forced {
		// With 0 the guest's death could pass unseen; 1 second is as good to a user.
		if err := s.setGracePeriod(ctx, vmi, 1, opts.DryRun); err != nil {
			return err
		}
	}
	err := s.change(ctx, vm, opts.DryRun, stopOf(vmi), v1.VirtualMachineStateChangeRequest{Action: v1.StartRequest})
	if err != nil && forced && before != nil && len(opts.DryRun) == 0 {
		if undo := s.setGracePeriod(ctx, vmi, *before, nil); undo != nil {
			s.Log.Error("could not give a VMI its grace period back", "namespace", vmi.Namespace, "name", vmi.Name, "error", undo)
		}
	}
	return err
}

func runStrategy(vm *v1.VirtualMachine) (v1.VirtualMachineRunStrategy, error) {
	strategy, err := vm.RunStrategy()
	if err != nil {
		return "", vmConflict(vm.Name, "spec.running and spec.runStrategy are both set: %v", err)
	}
	return strategy, nil
}

func startsPaused(vm *v1.VirtualMachine) bool {
	t := vm.Spec.Template
	return t != nil && t.Spec.StartStrategy != nil && *t.Spec.StartStrategy == v1.StartStrategyPaused
}

func stopOf(vmi *v1.VirtualMachineInstance) v1.VirtualMachineStateChangeRequest {
	uid := vmi.UID
	return v1.VirtualMachineStateChangeRequest{Action: v1.StopRequest, UID: &uid}
}

func shorter(asked *int64, vmi *v1.VirtualMachineInstance) bool {
	now := vmi.Spec.TerminationGracePeriodSeconds
	return asked != nil && (now == nil || *asked < *now)
}

// change queues requests for the controller. A stop replaces what is queued: it must always be possible.
func (s *Server) change(ctx context.Context, vm *v1.VirtualMachine, dryRun []string, requests ...v1.VirtualMachineStateChangeRequest) error {
	queued := vm.Status.StateChangeRequests
	stops := len(requests) == 1 && requests[0].Action == v1.StopRequest
	p := patch{}
	switch {
	case len(queued) > 0 && !stops:
		return vmConflict(vm.Name, requestsUnderway)
	case len(queued) > 0:
		p.test("/status/stateChangeRequests", queued)
		p.replace("/status/stateChangeRequests", requests)
	case equality.Semantic.DeepEqual(vm.Status, v1.VirtualMachineStatus{}):
		err := s.firstStatus(ctx, vm, dryRun, requests)
		if !apierrors.IsConflict(err) {
			return err
		}
		// Somebody was faster, most likely the controller with its first look at the VM.
		if err := s.Client.Get(ctx, client.ObjectKeyFromObject(vm), vm); err != nil {
			return err
		}
		return s.change(ctx, vm, dryRun, requests...)
	default:
		p.test("/status/stateChangeRequests", nil)
		p.add("/status/stateChangeRequests", requests)
	}
	return s.patchStatus(ctx, vm, p, dryRun)
}

// firstStatus writes to a VM that the controller has not seen yet. It has no status that a JSON patch could reach into.
func (s *Server) firstStatus(ctx context.Context, vm *v1.VirtualMachine, dryRun []string, requests []v1.VirtualMachineStateChangeRequest) error {
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": vm.ResourceVersion},
		"status":   map[string]any{"stateChangeRequests": requests},
	})
	if err != nil {
		return fmt.Errorf("encode a patch: %w", err)
	}
	return s.Client.Status().Patch(ctx, vm, client.RawPatch(types.MergePatchType, data),
		&client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{DryRun: dryRun}})
}

func (s *Server) setRunning(ctx context.Context, vm *v1.VirtualMachine, run bool, dryRun []string) error {
	p := patch{}
	if vm.Spec.RunStrategy != nil {
		strategy := v1.RunStrategyHalted
		if run {
			strategy = v1.RunStrategyAlways
		}
		p.test("/spec/runStrategy", *vm.Spec.RunStrategy)
		p.replace("/spec/runStrategy", strategy)
	} else {
		p.test("/spec/running", vm.Spec.Running)
		p.add("/spec/running", run)
	}
	return s.patchObject(ctx, vm, p, dryRun)
}

func (s *Server) setGracePeriod(ctx context.Context, vmi *v1.VirtualMachineInstance, seconds int64, dryRun []string) error {
	const path = "/spec/terminationGracePeriodSeconds"
	p := patch{}
	p.test(path, vmi.Spec.TerminationGracePeriodSeconds)
	p.add(path, seconds)
	return s.patchObject(ctx, vmi, p, dryRun)
}
