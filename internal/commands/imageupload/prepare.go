package imageupload

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// prepare makes sure that there is a volume that waits for this content. done is true when it has it already.
func (j *job) prepare(ctx context.Context, state volume.State) (done bool, err error) {
	j.result.Length = j.source.length
	if state.DV == nil && state.Claim == nil {
		return false, j.create(ctx)
	}
	if state.Filled() {
		return true, j.compare(ctx, state)
	}
	if err := j.suitable(state); err != nil {
		return false, err
	}
	if err := j.large(ctx, state); err != nil {
		return false, err
	}
	if err := j.adopt(ctx, state); err != nil {
		return false, err
	}
	j.tell("Using existing PVC %s/%s\n", j.namespace, j.options.Name)
	return false, nil
}

// compare tells whether a finished volume holds the same content.
func (j *job) compare(ctx context.Context, state volume.State) error {
	name := j.options.Name
	recreate := fmt.Sprintf("choose another name, or remove it first with \"virtctl delete %s %s -n %s\"", j.options.Kind, name, j.namespace)
	var known, length string
	if state.Claim != nil {
		known, length = state.Claim.Annotations[names.AnnContentDigest], state.Claim.Annotations[names.AnnContentLength]
	}
	if known == "" || !j.source.resumable() {
		return problem.New(problem.Conflict, "PVC %s already successfully imported/cloned/updated; %s", name, recreate)
	}
	j.factory.Streams.Say("comparing %s with what is there\n", j.source.name)
	same, err := j.source.find(ctx, known, length)
	if err != nil {
		return err
	}
	if same == nil {
		return problem.New(problem.Conflict, "%s/%s already holds another image (%s); %s", j.namespace, name, known, recreate)
	}
	j.sends(same)
	j.result.Digest, j.result.AlreadyThere, j.result.Phase = known, true, state.Phase()
	j.tell("%s is already there: %s/%s has the same content (%s)\n", j.source.name, j.namespace, name, known)
	if j.options.DataSource {
		return j.dataSource(ctx)
	}
	return nil
}

// suitable tells whether an unfinished volume waits for an upload of this kind.
func (j *job) suitable(state volume.State) error {
	name := j.options.Name
	wanted := string(cdiv1.DataVolumeKubeVirt)
	if j.source.archive {
		wanted = string(cdiv1.DataVolumeArchive)
	}
	if dv := state.DV; dv != nil {
		if state.Failed() {
			return problem.New(problem.Conflict, "DataVolume %s/%s has failed: see \"virtctl describe dv %s -n %s\", remove it with \"virtctl delete dv %s -n %s\" and upload again",
				j.namespace, name, name, j.namespace, name, j.namespace)
		}
		if dv.Spec.Source == nil || dv.Spec.Source.Upload == nil {
			return problem.New(problem.Conflict, "DataVolume %s/%s is filled from elsewhere (phase %s): choose another name", j.namespace, name, state.Phase())
		}
		if got := string(dv.Spec.ContentType); got != wanted && (got != "" || j.source.archive) {
			return problem.New(problem.Conflict, "DataVolume %s/%s waits for content of type %q, not %q", j.namespace, name, got, wanted)
		}
		return nil
	}
	if !j.options.claim() {
		return problem.New(problem.Conflict, "no DataVolume is associated with the existing PVC %s/%s: use \"virtctl image-upload pvc %s\", or choose another name", j.namespace, name, name)
	}
	if _, waits := state.Claim.Annotations[names.AnnUploadRequest]; !waits && !j.options.NoCreate {
		return problem.New(problem.Conflict, "PVC %s not available for upload: it was not made for one; its content is overwritten if you say --no-create", name)
	}
	if j.source.archive && !j.options.NoCreate && state.Claim.Annotations[names.AnnContentType] != wanted {
		return problem.New(problem.Conflict, "PVC %s doesn't have archive contentType annotation", name)
	}
	return nil
}

// large refuses a volume that cannot hold the image.
func (j *job) large(ctx context.Context, state volume.State) error {
	need := j.source.info.VirtualSize
	if need <= 0 {
		return nil
	}
	if dv := state.DV; dv != nil && dv.Spec.Storage != nil {
		size := dv.Spec.Storage.Resources.Requests[corev1.ResourceStorage]
		if have := size.Value(); have > 0 && have < need {
			return j.tooSmall(need, fmt.Sprintf("DataVolume %s/%s is %s", j.namespace, j.options.Name, size.String()))
		}
		return nil
	}
	if state.Claim == nil {
		return nil
	}
	have := volume.Capacity(state.Claim)
	if !state.Block() && state.Claim.Spec.StorageClassName != nil {
		need = volume.WithOverhead(need, volume.Overhead(ctx, j.client, *state.Claim.Spec.StorageClassName))
	}
	if have > 0 && have < need {
		return j.tooSmall(need, fmt.Sprintf("PVC %s/%s is %s", j.namespace, j.options.Name, volume.Bytes(have)))
	}
	return nil
}

// tooSmall names the size that would do.
func (j *job) tooSmall(need int64, have string) error {
	return problem.New(problem.Invalid, "the volume is too small: %s unpacks to %s, which needs a volume of %s; %s. Nothing was sent",
		j.source.name, volume.Bytes(j.source.info.VirtualSize), volume.RoundUp(need), have)
}

// adopt asks for an upload into a claim that was not made for one, and for a volume now where one waits for its first user.
func (j *job) adopt(ctx context.Context, state volume.State) error {
	wanted := map[string]string{}
	if state.Claim != nil && state.DV == nil {
		if _, waits := state.Claim.Annotations[names.AnnUploadRequest]; !waits {
			wanted[names.AnnUploadRequest] = ""
			wanted[names.AnnContentType] = j.contentType()
		}
	}
	bound := state.Claim != nil && state.Claim.Status.Phase == corev1.ClaimBound
	if _, asked := annotations(state)[names.AnnImmediateBinding]; !asked && !bound {
		wanted[names.AnnImmediateBinding] = ""
	}
	if len(wanted) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": wanted}})
	if err != nil {
		return fmt.Errorf("encode the annotations: %w", err)
	}
	if state.DV != nil {
		_, err = j.client.DataVolumes(j.namespace).Patch(ctx, state.DV.Name, types.MergePatchType, patch)
	}
	if state.Claim != nil && err == nil {
		_, err = j.client.Claims(j.namespace).Patch(ctx, state.Claim.Name, types.MergePatchType, patch)
	}
	return err
}

func annotations(state volume.State) map[string]string {
	if state.DV != nil {
		return state.DV.Annotations
	}
	return state.Claim.Annotations
}

func (j *job) contentType() string {
	if j.source.archive {
		return string(cdiv1.DataVolumeArchive)
	}
	return string(cdiv1.DataVolumeKubeVirt)
}

// create makes the volume, sized by the image.
func (j *job) create(ctx context.Context) error {
	if j.options.NoCreate {
		return problem.New(problem.NotFound, "there is no %s %s/%s: leave --no-create out to have it made", j.kind().Kind, j.namespace, j.options.Name)
	}
	if j.options.size == nil && j.source.info.VirtualSize <= 0 {
		return problem.Usagef("when creating a resource, the size must be specified: %s (%s) does not say how large it gets; add --size", j.source.name, j.source.info.Format)
	}
	if class := j.options.StorageClass; class != "" {
		if _, err := j.client.StorageClasses().Get(ctx, class); err != nil {
			return fmt.Errorf("look for storage class %s: %w", class, err)
		}
	}
	j.factory.Streams.Say("%s\n", j.describe())
	if j.options.claim() {
		return j.createClaim(ctx)
	}
	return j.createDataVolume(ctx)
}

// describe says what the image is.
func (j *job) describe() string {
	text := j.source.name + ": " + j.source.info.Format
	if j.source.length > 0 {
		text += ", "
		if j.source.looked != nil {
			text += "at most "
		}
		text += volume.Bytes(j.source.length) + " to send"
	}
	if j.source.info.VirtualSize > 0 {
		text += ", a disk of " + volume.Bytes(j.source.info.VirtualSize)
	}
	return text
}

func (j *job) meta() metav1.ObjectMeta {
	meta := metav1.ObjectMeta{
		Name: j.options.Name, Namespace: j.namespace,
		// An upload needs the volume now, whoever will use it later.
		Annotations: map[string]string{names.AnnImmediateBinding: ""},
	}
	for label, value := range map[string]string{
		names.LabelDefaultInstancetype: j.options.Labels.Instancetype, names.LabelDefaultInstancetypeKind: j.options.Labels.InstancetypeKind,
		names.LabelDefaultPreference: j.options.Labels.Preference, names.LabelDefaultPreferenceKind: j.options.Labels.PreferenceKind,
	} {
		if value != "" {
			metav1.SetMetaDataLabel(&meta, label, value)
		}
	}
	return meta
}
