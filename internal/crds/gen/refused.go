package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// refused is a kind of the contract that this platform does not act on. It is known, so that clients can list it, which they do when they
// look over or tidy up a namespace; whoever creates one is told at once, instead of waiting for something that never happens.
type refused struct {
	group, kind string
	versions    []string
	shortNames  []string
	// instead is what does what is wanted.
	instead string
}

func refusedKinds() []refused {
	const snapshots = "take a VolumeSnapshot of the VM's claims with your storage, and make disks from it with \"virtctl create vm --volume-import type:snapshot,src:NAME\""
	return []refused{
		{
			"pool.kubevirt.io", "VirtualMachinePool",
			[]string{"v1beta1"},
			[]string{"vmpool", "vmpools"},
			"use a VirtualMachineInstanceReplicaSet, or one VirtualMachine each",
		},
		{"snapshot.kubevirt.io", "VirtualMachineSnapshot", []string{"v1beta1"}, []string{"vmsnapshot", "vmsnapshots"}, snapshots},
		{"snapshot.kubevirt.io", "VirtualMachineSnapshotContent", []string{"v1beta1"}, []string{"vmsnapshotcontent", "vmsnapshotcontents"}, snapshots},
		{"snapshot.kubevirt.io", "VirtualMachineRestore", []string{"v1beta1"}, []string{"vmrestore", "vmrestores"}, snapshots},
		{
			"clone.kubevirt.io", "VirtualMachineClone",
			[]string{"v1beta1"},
			[]string{"vmclone", "vmclones"},
			"stop the VM and make another from its disks with \"virtctl create vm --volume-import type:pvc,src:CLAIM\"",
		},
		{
			"export.kubevirt.io", "VirtualMachineExport",
			[]string{"v1", "v1beta1"},
			[]string{"vmexport", "vmexports"},
			"mount the VM's claim in a pod and copy its disk from there",
		},
		{"backup.kubevirt.io", "VirtualMachineBackup", []string{"v1alpha1"}, []string{"vmbackup", "vmbackups"}, snapshots},
		{"backup.kubevirt.io", "VirtualMachineBackupTracker", []string{"v1alpha1"}, []string{"vmbackuptracker", "vmbackuptrackers"}, snapshots},
	}
}

func (r refused) plural() string { return strings.ToLower(r.kind) + "s" }

func (r refused) render() *extv1.CustomResourceDefinition {
	anything := true
	schema := &extv1.CustomResourceValidation{OpenAPIV3Schema: &extv1.JSONSchemaProps{
		Type: "object", XPreserveUnknownFields: &anything,
		XValidations: extv1.ValidationRules{{
			Rule: "false", Message: "nothing here acts on a " + r.kind + ", so none is taken: " + r.instead,
		}},
	}}
	out := &extv1.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: r.plural() + "." + r.group, Labels: map[string]string{"app.kubernetes.io/part-of": "virtctl"}},
		Spec: extv1.CustomResourceDefinitionSpec{
			Group: r.group, Scope: extv1.NamespaceScoped,
			Names: extv1.CustomResourceDefinitionNames{
				Kind: r.kind, ListKind: r.kind + "List", Plural: r.plural(), Singular: strings.ToLower(r.kind), ShortNames: r.shortNames,
			},
		},
	}
	for i, version := range r.versions {
		out.Spec.Versions = append(out.Spec.Versions, extv1.CustomResourceDefinitionVersion{
			Name: version, Served: true, Storage: i == 0, Schema: schema,
		})
	}
	return out
}

// writeRefused writes the definitions of the kinds that are not acted on.
func writeRefused(to string) error {
	for _, r := range refusedKinds() {
		rendered, err := yaml.Marshal(r.render())
		if err != nil {
			return fmt.Errorf("%s: %w", r.kind, err)
		}
		if err := os.WriteFile(filepath.Join(to, r.group+"_"+r.plural()+".yaml"), rendered, 0o644); err != nil {
			return err
		}
	}
	return nil
}
