package review

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	sdkapi "kubevirt.io/controller-lifecycle-operator-sdk/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// validateCDI keeps users' volumes: when the CDI resource says so, it cannot be deleted as long as there are any. Those that
// DataImportCrons made do not count.
func (s *Server) validateCDI(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if r.Operation != admissionv1.Delete {
		return nil
	}
	cdi := &cdiv1.CDI{}
	var err error
	switch {
	case len(r.OldObject.Raw) > 0:
		r.Object = r.OldObject
		err = decode(r, cdi, nil)
	case r.Name != "":
		err = s.get(ctx, "", r.Name, cdi)
	default:
		err = errors.New("cannot derive deleted resource")
	}
	if err != nil {
		return failed(err)
	}
	if phase := cdi.Status.Phase; phase == sdkapi.PhaseEmpty || phase == sdkapi.PhaseError {
		return nil
	}
	if how := cdi.Spec.UninstallStrategy; how == nil || *how != cdiv1.CDIUninstallStrategyBlockUninstallIfWorkloadsExist {
		return nil
	}
	volumes := &cdiv1.DataVolumeList{}
	if err := s.Client.List(ctx, volumes, client.Limit(2), noCron()); err != nil {
		return failed(err)
	}
	if n := len(volumes.Items); n > 0 {
		return failed(fmt.Errorf("rejecting the uninstall request, since there are still %d DataVolumes present. "+
			"Either delete all DataVolumes or change the uninstall strategy before uninstalling CDI", n))
	}
	return nil
}

func noCron() client.ListOption {
	return client.MatchingLabelsSelector{Selector: without(names.LabelImportCron)}
}

func (s *Server) validateTransfer(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	transfer, old := &cdiv1.ObjectTransfer{}, &cdiv1.ObjectTransfer{}
	if err := decode(r, transfer, old); err != nil {
		return failed(err)
	}
	if r.Operation == admissionv1.Update {
		if !equality.Semantic.DeepEqual(transfer.Spec, old.Spec) {
			return failed(errors.New("ObjectTransfer spec is immutable"))
		}
		return nil
	}
	source, target := transfer.Spec.Source, transfer.Spec.Target
	if target.Namespace == nil && target.Name == nil {
		return failed(errors.New("Target namespace and/or target name must be supplied")) //nolint:staticcheck // the contract's text
	}
	namespace, name := source.Namespace, source.Name
	if target.Namespace != nil {
		namespace = *target.Namespace
	}
	if target.Name != nil {
		name = *target.Name
	}
	var err error
	switch source.Kind {
	case "DataVolume":
		err = s.get(ctx, namespace, name, &cdiv1.DataVolume{})
	case "PersistentVolumeClaim":
		err = s.get(ctx, namespace, name, &corev1.PersistentVolumeClaim{})
	default:
		err = fmt.Errorf("Unsupported kind %q", source.Kind) //nolint:staticcheck // the contract's text
		return failed(err)
	}
	switch {
	case err == nil:
		return failed(fmt.Errorf("ObjectTransfer target \"%s/%s\" already exists", namespace, name))
	case !apierrors.IsNotFound(err):
		return failed(err)
	}
	return &admissionv1.AdmissionResponse{
		Allowed: true, Warnings: []string{"ObjectTransfer feature is deprecated, and will be deleted soon"},
	}
}
