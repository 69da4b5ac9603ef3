package subresource

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	k8sv1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// migrate asks for a live migration by creating the object that stands for one.
func (s *Server) migrate(r *request) error {
	opts := v1.MigrateOptions{}
	if err := options(r, &opts); err != nil {
		return err
	}
	if _, err := s.vm(r); err != nil {
		return err
	}
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	if vmi.Status.Phase != v1.Running {
		return vmConflict(r.name, vmNotRunning)
	}
	migration := &v1.VirtualMachineInstanceMigration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "kubevirt-migrate-vm-", Namespace: r.namespace},
		Spec:       v1.VirtualMachineInstanceMigrationSpec{VMIName: r.name, AddedNodeSelector: opts.AddedNodeSelector},
	}
	if err := s.Client.Create(r.Context(), migration, &client.CreateOptions{DryRun: opts.DryRun}); err != nil {
		var refused apierrors.APIStatus
		if errors.As(err, &refused) {
			return err
		}
		return fmt.Errorf("create a migration of %s/%s: %w", r.namespace, r.name, err)
	}
	return accepted(r)
}

func (s *Server) vmEvacuateCancel(r *request) error {
	if _, err := s.vm(r); err != nil {
		return err
	}
	vmi, err := s.findVMI(r.Context(), r.key())
	if err != nil {
		return err
	}
	if vmi == nil {
		return vmConflict(r.name, "VMI is not started")
	}
	return s.evacuateCancel(r, vmi)
}

func (s *Server) vmiEvacuateCancel(r *request) error {
	vmi, err := s.vmi(r)
	if err != nil {
		return err
	}
	return s.evacuateCancel(r, vmi)
}

// evacuateCancel takes back an evacuation that an eviction asked for.
func (s *Server) evacuateCancel(r *request, vmi *v1.VirtualMachineInstance) error {
	opts := v1.EvacuateCancelOptions{}
	if err := options(r, &opts); err != nil {
		return err
	}
	asked := vmi.Status.EvacuationNodeName
	if asked == "" {
		r.WriteHeader(http.StatusOK)
		return nil
	}
	node := opts.EvacuationNodeName
	if node == "" {
		node = asked
	}
	if err := s.checkDrain(r, node); err != nil {
		return err
	}
	p := patch{}
	p.test("/status/evacuationNodeName", asked)
	p.remove("/status/evacuationNodeName")
	if err := s.patchObject(r.Context(), vmi, p, opts.DryRun); err != nil {
		return err
	}
	r.WriteHeader(http.StatusOK)
	return nil
}

// checkDrain refuses to cancel what the node's taint would ask for again at once.
func (s *Server) checkDrain(r *request, name string) error {
	node := &k8sv1.Node{}
	if err := s.Client.Get(r.Context(), client.ObjectKey{Name: name}, node); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("get node %q: %w", name, err)
	}
	key := s.Config.Get().Migration.NodeDrainTaintKey
	drained := slices.ContainsFunc(node.Spec.Taints, func(t k8sv1.Taint) bool {
		return t.Key == key && t.Effect == k8sv1.TaintEffectNoSchedule
	})
	if drained {
		return apierrors.NewBadRequest(fmt.Sprintf("node %q has the taint %s:NoSchedule, which evacuates it; remove the taint first",
			name, key))
	}
	return nil
}
