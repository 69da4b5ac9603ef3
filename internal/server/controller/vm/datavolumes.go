package vm

import "context"

// reasonDataFailed is the reason of the condition Failure when a DataVolume could not be made.
const reasonDataFailed = "FailedDataVolumeCreate"

// ensureData makes the DataVolumes of the VM's templates and finds out how far they are.
func (r *Reconciler) ensureData(ctx context.Context, p *pass) error {
	if r.DataVolumes == nil {
		p.data.Ready = len(p.vm.Spec.DataVolumeTemplates) == 0
		if !p.data.Ready {
			p.data.Failed = true
			p.data.Why = "this cluster has no DataVolumes; install CDI or remove spec.dataVolumeTemplates"
		}
		return nil
	}
	data, err := r.DataVolumes.Ensure(ctx, p.vm)
	p.data = data
	if err != nil {
		p.err, p.failure = err, &failure{reasonDataFailed, err.Error()}
	}
	return nil
}
