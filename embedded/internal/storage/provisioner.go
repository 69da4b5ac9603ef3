package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

// Backend is where volumes are really made; Volumes is the one outside tests.
type Backend interface {
	Device(name string) string
	Create(ctx context.Context, name string, request int64, filesystem bool) (int64, error)
	Grow(name string, request int64, filesystem bool) (int64, error)
	GrowFilesystem(ctx context.Context, name string) error
	Remove(name string) error
}

// Provisioner makes, grows and removes the volumes of claims.
type Provisioner struct {
	client    kubernetes.Interface
	volumes   Backend
	firstNode string
	// onlineGrowth tells that kubelets here can grow mounted file systems.
	onlineGrowth bool
	events       record.EventRecorder

	claims  corelisters.PersistentVolumeClaimLister
	pvs     corelisters.PersistentVolumeLister
	classes storagelisters.StorageClassLister
	queue   workqueue.TypedRateLimitingInterface[string]
}

// NewProvisioner returns a provisioner. Local claims that name no node get firstNode. onlineGrowth tells
// whether this machine may grow a mounted file system, which takes CAP_SYS_RESOURCE.
func NewProvisioner(client kubernetes.Interface, volumes Backend, firstNode string, onlineGrowth bool) *Provisioner {
	return &Provisioner{
		client: client, volumes: volumes, firstNode: firstNode, onlineGrowth: onlineGrowth,
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]()),
	}
}

// Keys in the queue are "claim/<namespace>/<name>" and "volume/<name>".
const (
	claimKey  = "claim/"
	volumeKey = "volume/"
)

// Run works until ctx ends.
func (p *Provisioner) Run(ctx context.Context) error {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: p.client.CoreV1().Events("")})
	p.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "virt-kube-storage"})

	factory := informers.NewSharedInformerFactory(p.client, 0)
	claims := factory.Core().V1().PersistentVolumeClaims()
	pvs := factory.Core().V1().PersistentVolumes()
	classes := factory.Storage().V1().StorageClasses()
	p.claims, p.pvs, p.classes = claims.Lister(), pvs.Lister(), classes.Lister()
	for _, w := range []struct {
		informer cache.SharedIndexInformer
		prefix   string
	}{{claims.Informer(), claimKey}, {pvs.Informer(), volumeKey}} {
		if _, err := w.informer.AddEventHandler(p.enqueue(w.prefix)); err != nil {
			return fmt.Errorf("watch volumes: %w", err)
		}
	}
	// A class that comes after its claims makes them provisionable.
	if _, err := classes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(any) { p.enqueueAll() }}); err != nil {
		return fmt.Errorf("watch storage classes: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	factory.WaitForCacheSync(ctx.Done())
	defer context.AfterFunc(ctx, p.queue.ShutDown)()
	for p.next(ctx) {
	}
	return nil
}

func (p *Provisioner) enqueue(prefix string) cache.ResourceEventHandler {
	add := func(object any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			p.queue.Add(prefix + key)
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, object any) { add(object) }, DeleteFunc: add}
}

func (p *Provisioner) enqueueAll() {
	claims, err := p.claims.List(labels.Everything())
	if err != nil {
		slog.Warn("list claims", "err", err)
	}
	for _, c := range claims {
		p.queue.Add(claimKey + c.Namespace + "/" + c.Name)
	}
}

func (p *Provisioner) next(ctx context.Context) bool {
	key, quit := p.queue.Get()
	if quit {
		return false
	}
	defer p.queue.Done(key)
	if err := p.reconcile(ctx, key); err != nil && ctx.Err() == nil {
		slog.Warn("storage", "key", key, "err", err)
		p.queue.AddRateLimited(key)
		return true
	}
	p.queue.Forget(key)
	return true
}

func (p *Provisioner) reconcile(ctx context.Context, key string) error {
	if name, ok := strings.CutPrefix(key, volumeKey); ok {
		return p.reconcileVolume(ctx, name)
	}
	namespace, name, err := cache.SplitMetaNamespaceKey(strings.TrimPrefix(key, claimKey))
	if err != nil {
		return err
	}
	claim, err := p.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Spec.StorageClassName == nil || claim.DeletionTimestamp != nil {
		return nil
	}
	class, err := p.classes.Get(*claim.Spec.StorageClassName)
	if apierrors.IsNotFound(err) || err == nil && !ours(class) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Spec.VolumeName == "" {
		return p.provision(ctx, claim, class)
	}
	return p.expand(ctx, claim)
}

// provision makes the volume of a claim that has none.
func (p *Provisioner) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	if _, err := p.pvs.Get(VolumeName(claim)); err == nil {
		return nil // made, and about to be bound
	}
	if err := refuse(claim, class); err != nil {
		p.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
		return nil // the claim has to change, which comes back here
	}
	where, err := placement(claim, class, p.firstNode)
	if errors.Is(err, errWait) {
		return nil
	}
	if err != nil {
		return err
	}
	request := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	name := VolumeName(claim)
	size, err := p.volumes.Create(ctx, name, request.Value(), filesystem(claim.Spec.VolumeMode))
	if err != nil {
		p.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
		return err
	}
	pv := newVolume(claim, class, where, p.volumes.Device(name), size)
	if _, err := p.client.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make the volume of %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	p.events.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "made volume %s", name)
	return nil
}

// reconcileVolume frees the space of a volume whose claim is gone.
func (p *Provisioner) reconcileVolume(ctx context.Context, name string) error {
	pv, err := p.pvs.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	by := pv.Annotations[annotationProvisionedBy]
	if by != ProvisionerLocal && by != ProvisionerShared || pv.Status.Phase != corev1.VolumeReleased ||
		pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return nil
	}
	if err := p.volumes.Remove(name); err != nil {
		p.events.Event(pv, corev1.EventTypeWarning, "VolumeFailedDelete", err.Error())
		return err
	}
	if err := p.client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
