// Package vmi brings the domains of this node's launchers to what their VirtualMachineInstances say, and the
// VirtualMachineInstances' statuses to what the domains do.
//
// One reconciliation is for one launcher pod. It is started by the pod, by its VirtualMachineInstance and by its launcher.
package vmi

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/server/handler/launchers"
	"virtctl/internal/server/handler/migration"
)

// Node is what the reconciler asks about its node.
type Node interface {
	// HostModel tells whether the node has said what its host-model CPU is.
	HostModel() bool
	// CapabilitiesCache is libvirt's cache of what this node's QEMU can do, nil if there is none.
	CapabilitiesCache(kvm bool) map[string][]byte
}

// Reconciler reconciles launcher pods.
type Reconciler struct {
	NodeName string
	// Cache holds the node's pods and its VirtualMachineInstances, Arrivals those that shall come here by migration (nil if there
	// can be none); Live asks the API server.
	Cache     client.Reader
	Arrivals  client.Reader
	Live      client.Reader
	Writer    client.Client
	Launchers *launchers.Set
	// Connect connects to the pod that holds a plugged volume.
	Connect launchers.ConnectFunc
	Config  *clusterconfig.Source
	Node    Node
	Now     func() time.Time
	// Background ends with the process; what outlives a reconciliation runs in it and calls Changed with the launcher's pod at its end.
	Background context.Context //nolint:containedctx // see above
	Changed    func(pod types.NamespacedName)
	// Migrations is this node's part in live migrations; nil turns them off.
	Migrations *migration.Node

	memory memory
}

// Reconcile handles one launcher pod.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	pod := &corev1.Pod{}
	err := r.Cache.Get(ctx, req.NamespacedName, pod)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("get pod: %w", err)
	}
	ref, mine := r.refOf(pod)
	if err != nil || !mine {
		r.Launchers.Forget(req.NamespacedName)
		r.memory.forget(req.NamespacedName)
		if r.Migrations != nil {
			r.Migrations.Receiver.Forget(req.NamespacedName)
		}
		return ctrl.Result{}, nil
	}
	view := r.Launchers.Ensure(ref).View()
	if view.State == nil {
		return ctrl.Result{}, nil // its first event brings us back
	}
	vmi, err := r.vmiOf(ctx, ref)
	if err != nil || vmi == nil {
		return ctrl.Result{}, err
	}
	s := &session{r: r, ref: ref, pod: pod, vmi: vmi, launcher: r.Launchers.Ensure(ref), view: view, mem: r.memory.of(ref)}
	return s.run(ctx)
}

// refOf tells whose launcher a pod is; only the owner reference counts (CVE-2025-64435). Pods that have ended, that are not on
// this node or that share its network are not ours.
func (r *Reconciler) refOf(pod *corev1.Pod) (launchers.Ref, bool) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != v1.VirtualMachineInstanceGroupVersionKind.Kind || !isKubeVirt(owner.APIVersion) {
		return launchers.Ref{}, false
	}
	if pod.Spec.NodeName != r.NodeName || pod.Spec.HostNetwork || podEnded(pod) {
		return launchers.Ref{}, false
	}
	return launchers.Ref{
		Pod: client.ObjectKeyFromObject(pod), PodUID: pod.UID,
		VMI: types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}, VMIUID: owner.UID,
	}, true
}

func isKubeVirt(apiVersion string) bool {
	return apiVersion == v1.GroupVersion.String() || apiVersion == v1.SchemeGroupVersion.String() || apiVersion == "kubevirt.io/v1alpha3"
}

func podEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// vmiOf reads the owner of a launcher; nil if it is gone, or another object has its name now. The cache holds only objects
// labelled with this node, which the first write makes them.
func (r *Reconciler) vmiOf(ctx context.Context, ref launchers.Ref) (*v1.VirtualMachineInstance, error) {
	mem := r.memory.of(ref)
	var err error
	for _, cache := range []client.Reader{r.Cache, r.Arrivals} {
		if cache == nil {
			continue
		}
		vmi := &v1.VirtualMachineInstance{}
		err = cache.Get(ctx, ref.VMI, vmi)
		if err == nil && vmi.UID == ref.VMIUID {
			return mem.newest(vmi), nil
		}
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("get virtual machine instance: %w", err)
		}
	}
	// The cache is still to learn of what we wrote; unless a migration has taken the object to another node's.
	if written := mem.written(); written != nil && written.Status.MigrationState == nil && apierrors.IsNotFound(err) {
		return written, nil
	}
	return r.fetch(ctx, ref)
}

func (r *Reconciler) fetch(ctx context.Context, ref launchers.Ref) (*v1.VirtualMachineInstance, error) {
	vmi := &v1.VirtualMachineInstance{}
	err := r.Live.Get(ctx, ref.VMI, vmi)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("get virtual machine instance: %w", err)
	}
	if err != nil || vmi.UID != ref.VMIUID {
		return nil, nil
	}
	return vmi, nil
}
