package datavolume

import (
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
)

func claimWith(phase corev1.PersistentVolumeClaimPhase, a map[string]string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "disk", Annotations: a}, Status: corev1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

// The phase that clients wait for, for each state of a claim and its worker.
func TestPhase(t *testing.T) {
	phase := func(p string) map[string]string { return map[string]string{names.AnnPodPhase: p} }
	ready := map[string]string{names.AnnPodPhase: "Running", names.AnnPodReady: "true"}
	for name, test := range map[string]struct {
		kind   kind
		claim  *corev1.PersistentVolumeClaim
		change func(*pass)
		want   cdi.DataVolumePhase
	}{
		"no claim":              {importKind(), nil, nil, cdi.Pending},
		"unbound":               {importKind(), claimWith(corev1.ClaimPending, nil), nil, cdi.Pending},
		"waits for a user":      {importKind(), claimWith(corev1.ClaimPending, nil), func(p *pass) { p.waits = true }, cdi.WaitForFirstConsumer},
		"bound":                 {importKind(), claimWith(corev1.ClaimBound, nil), nil, cdi.PVCBound},
		"our pod binds it":      {importKind(), claimWith(corev1.ClaimPending, phase("Pending")), nil, cdi.ImportScheduled},
		"import runs":           {importKind(), claimWith(corev1.ClaimBound, phase("Running")), nil, cdi.ImportInProgress},
		"import done":           {importKind(), claimWith(corev1.ClaimBound, phase("Succeeded")), nil, cdi.Succeeded},
		"import evicted":        {importKind(), claimWith(corev1.ClaimBound, phase("Failed")), nil, cdi.ImportScheduled},
		"import given up":       {importKind(), claimWith(corev1.ClaimBound, map[string]string{names.AnnPodPhase: "Failed", names.AnnImportFatalError: "true"}), nil, cdi.Failed},
		"upload server starts":  {uploadKind(), claimWith(corev1.ClaimBound, phase("Running")), nil, cdi.UploadScheduled},
		"upload server waits":   {uploadKind(), claimWith(corev1.ClaimBound, ready), nil, cdi.UploadReady},
		"clone scheduled":       {cloneKind("a/b"), claimWith(corev1.ClaimBound, phase("Pending")), nil, cdi.CloneScheduled},
		"clone runs":            {cloneKind("a/b"), claimWith(corev1.ClaimBound, phase("Running")), nil, cdi.CloneInProgress},
		"storage clones":        {cloneKind("a/b"), claimWith(corev1.ClaimPending, nil), func(p *pass) { p.now = cdi.CSICloneInProgress }, cdi.CSICloneInProgress},
		"snapshot first":        {cloneKind("a/b"), nil, func(p *pass) { p.now = cdi.SnapshotForSmartCloneInProgress }, cdi.SnapshotForSmartCloneInProgress},
		"lost":                  {importKind(), claimWith(corev1.ClaimLost, phase("Running")), nil, cdi.Failed},
		"filled by others":      {importKind(), claimWith(corev1.ClaimBound, nil), func(p *pass) { p.done = true }, cdi.Succeeded},
		"deleted after success": {importKind(), nil, func(p *pass) { p.before.Status.Phase = cdi.Succeeded }, cdi.Succeeded},
		"between stages": {importKind(), claimWith(corev1.ClaimBound, phase("Succeeded")), func(p *pass) {
			p.dv.Spec.Checkpoints = []cdi.DataVolumeCheckpoint{{Current: "one"}}
		}, cdi.Paused},
		"last stage done": {importKind(), claimWith(corev1.ClaimBound, map[string]string{names.AnnPodPhase: "Succeeded", names.AnnMultiStageImportDone: "true"}), func(p *pass) {
			p.dv.Spec.Checkpoints = []cdi.DataVolumeCheckpoint{{Current: "one"}}
		}, cdi.Succeeded},
	} {
		p := &pass{before: &cdi.DataVolume{}, dv: &cdi.DataVolume{}, claim: test.claim}
		p.source.kind = test.kind
		if test.change != nil {
			test.change(p)
		}
		if got := p.phase(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// Both ends of a clone count.
func TestRunning(t *testing.T) {
	end := func(prefix, status, reason, message string) map[string]string {
		return map[string]string{prefix: status, prefix + names.SuffixReason: reason, prefix + names.SuffixMessage: message}
	}
	both := func(a, b map[string]string) map[string]string {
		for k, v := range b {
			a[k] = v
		}
		return a
	}
	target, source := names.AnnRunningCondition, names.AnnSourceRunningCondition
	for name, test := range map[string]struct {
		a    map[string]string
		want state
	}{
		"nothing": {map[string]string{}, state{corev1.ConditionFalse, "", ""}},
		"runs":    {end(target, "true", "Pod is running", ""), state{corev1.ConditionTrue, "Pod is running", ""}},
		"no node": {
			both(end(target, "false", "Unschedulable", "0/1 nodes"), map[string]string{names.AnnPodSchedulable: "false"}),
			state{corev1.ConditionFalse, "Unschedulable", "Importer pod cannot be scheduled: 0/1 nodes"},
		},
		"source in use": {
			both(end(target, "true", "Pod is running", ""), end(source, "false", "CloneSourceInUse", "pod x")),
			state{corev1.ConditionFalse, "CloneSourceInUse", "pod x"},
		},
		"both stopped": {both(end(target, "false", "Error", "a"), end(source, "false", "Completed", "b")), state{corev1.ConditionFalse, "Error and Completed", "a and b"}},
		"both run":     {both(end(target, "true", "Pod is running", ""), end(source, "true", "Pod is running", "")), state{corev1.ConditionTrue, "Pod is running", ""}},
	} {
		if got := runningState(test.a); got != test.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A condition's times move only when it does.
func TestConditionTimes(t *testing.T) {
	dv := &cdi.DataVolume{}
	dv.Status.Phase = cdi.Pending
	start := time.Unix(1000, 0)
	conditions(dv, nil, state{}, start)
	first := dv.Status.DeepCopy()
	conditions(dv, nil, state{}, start.Add(time.Hour))
	if !reflect.DeepEqual(first, &dv.Status) {
		t.Errorf("%+v\n%+v", first, dv.Status)
	}
	dv.Status.Phase = cdi.Succeeded
	conditions(dv, claimWith(corev1.ClaimBound, nil), state{}, start.Add(time.Hour))
	if c := find(dv, cdi.DataVolumeReady); c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Time.Equal(start.Add(time.Hour)) {
		t.Errorf("%+v", c)
	}
	if c := find(dv, cdi.DataVolumeBound); c.Reason != "Bound" || c.Message != "PVC disk Bound" {
		t.Errorf("%+v", c)
	}
}

// Stages of a warm migration are brought one after the other.
func TestCheckpoints(t *testing.T) {
	dv := &cdi.DataVolume{}
	dv.Spec.Checkpoints = []cdi.DataVolumeCheckpoint{{Current: "one"}, {Previous: "one", Current: "two"}}
	dv.Spec.FinalCheckpoint = true
	if a := checkpointAnnotations(dv, nil); a[names.AnnCheckpointCurrent] != "one" || a[names.AnnCheckpointFinal] != "false" {
		t.Errorf("%v", a)
	}
	done := map[string]string{names.AnnCheckpointsCopied + ".one": "pod"}
	if a := checkpointAnnotations(dv, done); a[names.AnnCheckpointCurrent] != "two" || a[names.AnnCheckpointPrevious] != "one" || a[names.AnnCheckpointFinal] != "true" {
		t.Errorf("%v", a)
	}
	done[names.AnnCheckpointsCopied+".two"] = "pod"
	if a := checkpointAnnotations(dv, done); len(a) > 0 {
		t.Errorf("%v", a)
	}
}

// Every kind of source says on the claim all that its worker must know.
func TestSourceAnnotations(t *testing.T) {
	text := func(s string) *string { return &s }
	yes, node := true, cdi.RegistryPullNode
	for name, test := range map[string]struct {
		source cdi.DataVolumeSource
		want   map[string]string
	}{
		"http": {cdi.DataVolumeSource{HTTP: &cdi.DataVolumeSourceHTTP{
			URL: "u", SecretRef: "s", CertConfigMap: "c", ExtraHeaders: []string{"a: b", "c: d"}, SecretExtraHeaders: []string{"h"}, Checksum: "md5:1", InsecureSkipVerify: &yes,
		}}, map[string]string{
			names.AnnSource: "http", names.AnnEndpoint: "u", names.AnnSecret: "s", names.AnnCertConfigMap: "c", names.AnnExtraHeaders + ".0": "a: b",
			names.AnnExtraHeaders + ".1": "c: d", names.AnnSecretExtraHeaders + ".0": "h", names.AnnChecksum: "md5:1", names.AnnInsecureSkipVerify: "true",
		}},
		"s3":    {cdi.DataVolumeSource{S3: &cdi.DataVolumeSourceS3{URL: "u"}}, map[string]string{names.AnnSource: "s3", names.AnnEndpoint: "u"}},
		"gcs":   {cdi.DataVolumeSource{GCS: &cdi.DataVolumeSourceGCS{URL: "u", SecretRef: "s"}}, map[string]string{names.AnnSource: "gcs", names.AnnEndpoint: "u", names.AnnSecret: "s"}},
		"blank": {cdi.DataVolumeSource{Blank: &cdi.DataVolumeBlankImage{}}, map[string]string{names.AnnSource: "none"}},
		"registry": {cdi.DataVolumeSource{Registry: &cdi.DataVolumeSourceRegistry{
			URL: text("docker://x"), PullMethod: &node, SecretRef: text("s"), CertConfigMap: text("c"), Platform: &cdi.PlatformOptions{Architecture: "arm64"},
		}}, map[string]string{
			names.AnnSource: "registry", names.AnnEndpoint: "docker://x", names.AnnRegistryImportMethod: "node", names.AnnSecret: "s", names.AnnCertConfigMap: "c",
			names.AnnRegistryArchitecture: "arm64",
		}},
		"upload": {cdi.DataVolumeSource{Upload: &cdi.DataVolumeSourceUpload{}}, map[string]string{names.AnnUploadRequest: ""}},
		"vddk": {cdi.DataVolumeSource{VDDK: &cdi.DataVolumeSourceVDDK{URL: "u", UUID: "i", BackingFile: "f", Thumbprint: "t", SecretRef: "s"}}, map[string]string{
			names.AnnSource: "vddk", names.AnnEndpoint: "u", names.AnnUUID: "i", names.AnnBackingFile: "f", names.AnnThumbprint: "t", names.AnnSecret: "s",
		}},
	} {
		if got := SourceAnnotations(&test.source); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
