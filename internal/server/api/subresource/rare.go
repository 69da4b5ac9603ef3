package subresource

import (
	"fmt"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
)

// usbRedir passes a USB device of the client to the guest.
func (s *Server) usbRedir(r *request) error {
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	if vmi.Spec.Domain.Devices.ClientPassthrough == nil {
		return vmiConflict(vmi.Name, "Not configured with USB Redirection: set spec.domain.devices.clientPassthrough")
	}
	if vmi.Spec.Architecture == "s390x" {
		return vmiConflict(vmi.Name, "USB Redirection is not supported on s390x")
	}
	if vmi.Status.Phase != v1.Running {
		return apierrors.NewBadRequest(vmiNotRunning)
	}
	return s.relay(r, vmi, "usbredir", nil)
}

// vsock opens a connection to a port of the guest that needs no network.
func (s *Server) vsock(r *request) error {
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	if !s.Config.Get().Gate(clusterconfig.GateVSOCK) {
		return apierrors.NewBadRequest("VSOCK is off: add VSOCK to the KubeVirt object's feature gates")
	}
	if a := vmi.Spec.Domain.Devices.AutoattachVSOCK; a == nil || !*a {
		return apierrors.NewBadRequest("VSOCK is not attached.")
	}
	if vmi.Status.Phase != v1.Running {
		return apierrors.NewBadRequest(vmiNotRunning)
	}
	query := url.Values{}
	port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 32)
	if err != nil || port == 0 {
		return apierrors.NewBadRequest(fmt.Sprintf("port %q is not a number from 1 to 4294967295", r.URL.Query().Get("port")))
	}
	query.Set("port", strconv.FormatUint(port, 10))
	secure := true
	if text := r.URL.Query().Get("tls"); text != "" {
		if secure, err = strconv.ParseBool(text); err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("tls %q is neither true nor false", text))
		}
	}
	query.Set("tls", strconv.FormatBool(secure))
	return s.relay(r, vmi, "vsock", query)
}

// encrypted gives the VMI of a request about encrypted memory. It answers in the contract's order: is it on, does the guest have
// it, is the guest where it must be.
func (s *Server) encrypted(r *request) (*v1.VirtualMachineInstance, error) {
	if !s.Config.Get().Gate(clusterconfig.GateWorkloadEncryptionSEV) {
		return nil, apierrors.NewBadRequest("WorkloadEncryptionSEV feature gate is not enabled in kubevirt resource")
	}
	vmi, err := s.vmi(r)
	if err != nil {
		return nil, err
	}
	if l := vmi.Spec.Domain.LaunchSecurity; l == nil || l.SEV == nil {
		return nil, vmiConflict(vmi.Name, "SEV is not enabled in the VMI: set spec.domain.launchSecurity.sev")
	}
	return vmi, nil
}

// sev answers the requests about a guest with encrypted memory. measured ones need a guest that waits for its owner.
func (s *Server) sev(measured bool) func(*request) error {
	return func(r *request) error {
		vmi, err := s.encrypted(r)
		if err != nil {
			return err
		}
		if measured {
			if err := running(vmi); err != nil {
				return err
			}
			if !vmiCondition(vmi, v1.VirtualMachineInstancePaused) {
				return vmiConflict(vmi.Name, vmiNotPaused)
			}
			if vmi.Spec.Domain.LaunchSecurity.SEV.Attestation == nil {
				return vmiConflict(vmi.Name, "Attestation was not requested: set spec.domain.launchSecurity.sev.attestation")
			}
		}
		return vmiConflict(vmi.Name, "node %s has no memory encryption that this version can measure", vmi.Status.NodeName)
	}
}

// sevSession refuses what no guest can be waiting for: this version starts none with encrypted memory.
func (s *Server) sevSession(r *request) error {
	vmi, err := s.encrypted(r)
	if err != nil {
		return err
	}
	if vmi.Status.Phase != v1.Scheduled {
		return vmiConflict(vmi.Name, "VMI is not in Scheduled phase")
	}
	return vmiConflict(vmi.Name, "node %s has no memory encryption that this version can use", vmi.Status.NodeName)
}

// backup is what upstream's backup controller calls; without changed block tracking there is nothing to go by.
func (s *Server) backup(r *request) error {
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	if err := running(vmi); err != nil {
		return err
	}
	return vmiConflict(vmi.Name, "ChangedBlockTracking is not enabled: use a snapshot to back up the VM's disks")
}
