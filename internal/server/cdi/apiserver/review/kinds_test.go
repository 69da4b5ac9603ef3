package review

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

func TestCronsAndPopulators(t *testing.T) {
	s := server(t, nil)
	cron := func(template, rest string) string {
		return "{metadata: {name: c}, spec: {template: {spec: {" + template + "}}, " + rest + "}}"
	}
	good := storage + `, source: {registry: {url: "docker://x"}}`
	for object, want := range map[string]string{
		cron(good, `schedule: "0 */12 * * *", managedDataSource: a`):    "allowed",
		cron(good, `schedule: "", managedDataSource: a`):                "allowed",
		cron(storage+", "+blank, "managedDataSource: a"):                "Missing source",
		cron(good+", contentType: kubevirt", "managedDataSource: a"):    "Unsettable fields: SourceRef, ContentType, Checkpoints, FinalCheckpoint",
		cron(good, `schedule: "every day", managedDataSource: a`):       "Illegal cron schedule",
		cron(good, "importsToKeep: -1, managedDataSource: a"):           "Illegal ImportsToKeep value",
		cron(good, "garbageCollect: Sometimes, managedDataSource: a"):   "Illegal GarbageCollect value",
		cron(good, `managedDataSource: ""`):                             "Illegal ManagedDataSource value",
		cron(good, "managedDataSource: "+strings.Repeat("a", 64)):       "Name cannot be longer than 63 characters",
		"{metadata: {name: " + strings.Repeat("a", 64) + "}, spec: {}}": "Name cannot be longer than 63 characters",
	} {
		if got := said(judged(t, s, "/dataimportcron-validate", &admissionv1.AdmissionRequest{Object: raw(t, object)})); got != want {
			t.Errorf("%s: %s", object, got)
		}
	}
	change := &admissionv1.AdmissionRequest{
		Operation: admissionv1.Update, Object: raw(t, cron(good, "managedDataSource: a")), OldObject: raw(t, cron(good, "managedDataSource: b")),
	}
	if got := said(judged(t, s, "/dataimportcron-validate", change)); got != "Cannot update DataImportCron Spec" {
		t.Error(got)
	}
	vddk := `source: {vddk: {url: "http://x", secretRef: a, uuid: b, backingFile: c, thumbprint: d}}, checkpoints: [{current: a, previous: ''}]`
	for _, tc := range []struct{ resource, spec, old, want string }{
		{"volumeimportsources", `source: {http: {url: "http://x"}}`, "", "allowed"},
		{"volumeimportsources", "", "", "Missing VolumeImport source"},
		{"volumeimportsources", `source: {http: {url: "http://x"}, blank: {}}`, "", "Multiple VolumeImport sources"},
		{"volumeimportsources", vddk, "", "Unable to do multi-stage import without specifying a target claim"},
		{"volumeimportsources", `source: {http: {url: "http://x"}}`, `source: {http: {url: "http://y"}}`, "Cannot update VolumeImportSource Spec"},
		{"volumeuploadsources", "contentType: kubevirt", "", "allowed"},
		{"volumeuploadsources", "contentType: tape", "", "ContentType not one of: kubevirt, archive"},
		{"volumeuploadsources", "contentType: kubevirt", "contentType: archive", "Cannot update VolumeUploadSource Spec"},
		{"volumeclonesources", "", "", "unexpected resource: volumeclonesources"},
	} {
		r := &admissionv1.AdmissionRequest{Object: raw(t, "{metadata: {name: p}, spec: {"+tc.spec+"}}")}
		r.Resource.Resource = tc.resource
		if tc.old != "" {
			r.Operation, r.OldObject = admissionv1.Update, raw(t, "{metadata: {name: p}, spec: {"+tc.old+"}}")
		}
		if got := said(judged(t, s, "/populator-validate", r)); got != tc.want {
			t.Errorf("%s {%s}: %s", tc.resource, tc.spec, got)
		}
	}
}

// Whoever deletes the CDI resource takes every disk with it, unless it guards itself.
func TestRemovalIsGuarded(t *testing.T) {
	volume := &cdiv1.DataVolume{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "lab"}}
	boot := &cdiv1.DataVolume{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "lab", Labels: map[string]string{names.LabelImportCron: "c"}}}
	const block = "uninstallStrategy: BlockUninstallIfWorkloadsExist"
	for _, tc := range []struct {
		name, spec, phase string
		volumes           []client.Object
		want              string
	}{
		{"unguarded", "", "Deployed", []client.Object{volume}, "allowed"},
		{"guarded", block, "Deployed", []client.Object{volume}, "rejecting the uninstall request, since there are still 1 DataVolumes present. " +
			"Either delete all DataVolumes or change the uninstall strategy before uninstalling CDI"},
		{"guarded, boot sources only", block, "Deployed", []client.Object{boot}, "allowed"},
		{"guarded, never deployed", block, "", []client.Object{volume}, "allowed"},
		{"guarded, empty", block, "Deployed", nil, "allowed"},
	} {
		object := "{metadata: {name: cdi}, spec: {" + tc.spec + "}, status: {phase: '" + tc.phase + "'}}"
		r := &admissionv1.AdmissionRequest{Operation: admissionv1.Delete, OldObject: raw(t, object)}
		if got := said(judged(t, server(t, nil, tc.volumes...), "/cdi-validate", r)); got != tc.want {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
}

func TestTransfers(t *testing.T) {
	there := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "other"}}
	s := server(t, nil, there)
	transfer := func(kind, target string) string {
		return "{metadata: {name: t}, spec: {source: {kind: " + kind + ", namespace: lab, name: a}, target: {" + target + "}}}"
	}
	for object, want := range map[string]string{
		transfer("DataVolume", "namespace: other"):            "allowed",
		transfer("PersistentVolumeClaim", "namespace: other"): `ObjectTransfer target "other/a" already exists`,
		transfer("PersistentVolumeClaim", "name: b"):          "allowed",
		transfer("DataVolume", ""):                            "Target namespace and/or target name must be supplied",
		transfer("Pod", "name: b"):                            `Unsupported kind "Pod"`,
	} {
		answer := judged(t, s, "/objecttransfer-validate", &admissionv1.AdmissionRequest{Object: raw(t, object)})
		if said(answer) != want {
			t.Errorf("%s: %s", object, said(answer))
		}
		if answer.Allowed && len(answer.Warnings) != 1 {
			t.Errorf("%s: warnings %v", object, answer.Warnings)
		}
	}
	change := &admissionv1.AdmissionRequest{
		Operation: admissionv1.Update, Object: raw(t, transfer("DataVolume", "name: b")), OldObject: raw(t, transfer("DataVolume", "name: c")),
	}
	if got := said(judged(t, s, "/objecttransfer-validate", change)); got != "ObjectTransfer spec is immutable" {
		t.Error(got)
	}
}

// A claim that asks for it gets the modes its storage does best, and room for its file system.
func TestClaimsAreFilled(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast", Annotations: map[string]string{names.AnnDefaultClass: "true"}}}
	profile := &cdiv1.StorageProfile{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Status: cdiv1.StorageProfileStatus{ClaimPropertySets: []cdiv1.ClaimPropertySet{
		{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, VolumeMode: &block},
	}}}
	s := server(t, nil, class, profile)
	claim := func(label, spec string) *admissionv1.AdmissionRequest {
		return &admissionv1.AdmissionRequest{Object: raw(t, "{metadata: {name: c, labels: {"+names.LabelApplyStorageProfile+`: "`+label+`"}}, spec: {`+spec+"}}")}
	}
	const size = "resources: {requests: {storage: 1Gi}}"
	answer := judged(t, s, "/pvc-mutate", claim("true", size))
	for _, want := range []string{`"ReadWriteMany"`, `"volumeMode":"Block"`, `"storageClassName":"fast"`, `"storage":"1Gi"`} {
		if !answer.Allowed || !strings.Contains(string(answer.Patch), want) {
			t.Errorf("no %s in %s %s", want, said(answer), answer.Patch)
		}
	}
	if answer := judged(t, s, "/pvc-mutate", claim("false", size)); !answer.Allowed || len(answer.Patch) > 0 {
		t.Errorf("a claim that does not ask: %s", answer.Patch)
	}
	if answer := judged(t, s, "/pvc-mutate", claim("true", "storageClassName: none, "+size)); answer.Allowed || !strings.Contains(said(answer), "StorageProfile none") {
		t.Errorf("an unknown class: %s", said(answer))
	}
}
