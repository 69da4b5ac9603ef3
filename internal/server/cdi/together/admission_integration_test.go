//go:build integration

package together

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/apply"
	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/token"
	"virtctl/internal/install"
)

func (cl *cluster) volume(ns, name string, source *cdiv1.DataVolumeSource) *cdiv1.DataVolume {
	return &cdiv1.DataVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		Spec: cdiv1.DataVolumeSpec{Source: source, Storage: &cdiv1.StorageSpec{
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		}},
	}
}

// as is a client of a user.
func (cl *cluster) as(user string) client.Client {
	c, err := client.New(cl.user(user), client.Options{Scheme: cl.c.Scheme()})
	must(cl.t, err)
	return c
}

func (cl *cluster) webhooks(t *testing.T) {
	ctx := context.Background()
	blank := &cdiv1.DataVolumeSource{Blank: &cdiv1.DataVolumeBlankImage{}}
	refused := func(what string, err error, text string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("no source", cl.c.Create(ctx, cl.volume("lab", "a", &cdiv1.DataVolumeSource{})), "Missing Data volume source")
	refused("a claim that is there", cl.c.Create(ctx, cl.volume("lab", "disk", blank)), "Destination PVC lab/disk already exists")
	empty := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "empty", "namespace": "lab"}}}
	empty.SetGroupVersionKind(cdiv1.SchemeGroupVersion.WithKind("DataVolume"))
	refused("no specification", cl.c.Create(ctx, empty), "spec: Required value")
	dv := cl.volume("lab", "good", blank)
	must(t, cl.c.Create(ctx, dv))
	dv.Spec.Storage.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("2Gi")
	refused("a changed specification", cl.c.Update(ctx, dv), "Cannot update DataVolume Spec")
	cron := &cdiv1.DataImportCron{ObjectMeta: metav1.ObjectMeta{Name: "cron", Namespace: "lab"}}
	cron.Spec.Template.Spec = cl.volume("lab", "x", blank).Spec
	refused("a cron of blank disks", cl.c.Create(ctx, cron), "Missing source")
	populator := &cdiv1.VolumeUploadSource{ObjectMeta: metav1.ObjectMeta{Name: "up", Namespace: "lab"}, Spec: cdiv1.VolumeUploadSourceSpec{ContentType: "tape"}}
	refused("an unknown content type", cl.c.Create(ctx, populator), "ContentType not one of: kubevirt, archive")
	block := cdiv1.CDIUninstallStrategyBlockUninstallIfWorkloadsExist
	cl.change(t, func(c *cdiv1.CDI) { c.Spec.UninstallStrategy = &block })
	waitFor(t, "phase Deployed", func() bool { cl.rollAll(); return cl.cdi().Status.Phase == "Deployed" })
	refused("removal with volumes", cl.c.Delete(ctx, cl.cdi()), "there are still 1 DataVolumes present")
	// A claim whose label asks for it is filled from the profile of its class.
	profile := &cdiv1.StorageProfile{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
	must(t, cl.c.Create(ctx, profile))
	file := corev1.PersistentVolumeFilesystem
	profile.Status.ClaimPropertySets = []cdiv1.ClaimPropertySet{{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, VolumeMode: &file}}
	must(t, cl.c.Status().Update(ctx, profile))
	class := "fast"
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "open", Namespace: "lab", Labels: map[string]string{names.LabelApplyStorageProfile: "true"}},
		Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, Resources: corev1.VolumeResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		}},
	}
	must(t, cl.c.Create(ctx, claim))
	if len(claim.Spec.AccessModes) != 1 || claim.Spec.AccessModes[0] != corev1.ReadWriteMany {
		t.Errorf("the claim was not filled: %+v", claim.Spec)
	}
}

// Who may not read a namespace's disks must not get them by cloning; who may gets a token that says so.
func (cl *cluster) clones(t *testing.T) {
	ctx := context.Background()
	source := &cdiv1.DataVolumeSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "other", Name: "secret"}}
	err := cl.as("editor").Create(ctx, cl.volume("lab", "stolen", source))
	if err == nil || !strings.Contains(err.Error(), "User editor has insufficient permissions in clone source namespace other") {
		t.Errorf("without the permission: %v", err)
	}
	cl.grant("editor", "other", "cdi.kubevirt.io:clone-sourcer")
	dv := cl.volume("lab", "lent", source)
	waitFor(t, "the permission", func() bool { err = cl.as("editor").Create(ctx, dv); return err == nil })
	secret := &corev1.Secret{}
	must(t, cl.read(secret, namespace, names.SecretSigningKey))
	key, err := token.ParsePublic(secret.Data[names.SigningKeyPublic])
	must(t, err)
	p, err := token.Verify(key, names.TokenIssuerAPI, dv.Annotations[names.AnnCloneToken], time.Now())
	if err != nil || p.Operation != token.Clone || p.Namespace != "other" || p.Name != "secret" ||
		p.Params[token.ParamTargetNamespace] != "lab" || p.Params[token.ParamTargetName] != "lent" {
		t.Errorf("token %+v %v", p, err)
	}
	own := cl.volume("lab", "copy", &cdiv1.DataVolumeSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "lab", Name: "disk"}})
	if err := cl.as("editor").Create(ctx, own); err != nil {
		t.Errorf("in one's own namespace: %v", err)
	}
	missing := cl.volume("lab", "ref", nil)
	missing.Spec.SourceRef = &cdiv1.DataVolumeSourceRef{Kind: "DataSource", Name: "empty"}
	must(t, cl.c.Create(ctx, &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Name: "empty", Namespace: "lab"}}))
	if err := cl.as("editor").Create(ctx, missing); err == nil || !strings.Contains(err.Error(), "Empty source field in 'empty'. DataSource may not be ready yet") {
		t.Errorf("an empty DataSource: %v", err)
	}
}

// virtctl tells how CDI is, installs nothing twice, and does not take users' disks away unless told to.
func (cl *cluster) virtctl(t *testing.T) {
	ctx := context.Background()
	status, err := cl.installer().Status(ctx)
	must(t, err)
	if s := status.Storage; s == nil || s.Name != names.CDI || s.Phase != "Deployed" || s.Version == "" || s.Foreign || s.Trouble != "" {
		t.Errorf("%+v", s)
	}
	again, err := cl.installer().Install(ctx)
	must(t, err)
	for _, step := range again.Steps {
		if strings.Contains(step.Object, "cdi") && step.Result != apply.Unchanged {
			t.Errorf("installed again: %s %s", step.Object, step.Result)
		}
	}
	err = cl.installer().Uninstall(ctx, false)
	if !errors.Is(err, install.ErrWorkloads) || !strings.Contains(err.Error(), "lab/good") {
		t.Errorf("uninstall with disks: %v", err)
	}
}
