// Package forward leads an upload to the pod that takes it: it finds the claim, waits until its upload server is ready, and
// passes the request on over mutual TLS. Nothing is asked twice: waiting is watching.
package forward

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/cdi/names"
)

// ReadyWait is how long an upload server may take to get ready before its client is told to come back.
const ReadyWait = 10 * time.Second

// Refusal is why an upload cannot go on, with the HTTP code its client is told.
type Refusal struct {
	Code int
	Text string
}

func (r *Refusal) Error() string { return r.Text }

// later refuses what may work in a moment.
func later(format string, args ...any) error {
	return &Refusal{Code: http.StatusServiceUnavailable, Text: fmt.Sprintf(format, args...)}
}

// Server is the upload server of a claim.
type Server struct {
	// Claim is the one that is written to: the claim itself, or the one that stands in for it until it is populated.
	Claim, Namespace string
	Address          string
	// Archive tells that the claim takes archives.
	Archive bool
	pod     *corev1.Pod
}

// Finder finds upload servers.
type Finder struct {
	Client client.WithWatch
	// Wait is how long to wait for one to get ready.
	Wait time.Duration
}

// Find gives the upload server of a claim as soon as it is ready. Its errors are Refusals, unless the API server failed.
func (f *Finder) Find(ctx context.Context, namespace, name string) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, f.Wait)
	defer cancel()
	claim, err := f.claim(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	if isPopulated(claim) {
		if claim, err = f.prime(ctx, claim); err != nil {
			return nil, err
		}
	}
	if _, target := claim.Annotations[names.AnnUploadRequest]; !target {
		return nil, later("rejecting upload request: PVC %s is not an upload target: create it by a DataVolume with source upload, or with the annotation %s",
			name, names.AnnUploadRequest)
	}
	if claim.Annotations[names.AnnPodPhase] == string(corev1.PodSucceeded) {
		return nil, later("rejecting Upload Request for PVC %s that already finished uploading", name)
	}
	server := &Server{Claim: claim.Name, Namespace: namespace}
	switch content := claim.Annotations[names.AnnContentType]; content {
	case "", string(cdiv1.DataVolumeKubeVirt):
	case string(cdiv1.DataVolumeArchive):
		server.Archive = true
	default:
		return nil, later("rejecting upload request for PVC %s - upload content-type %s is invalid", name, content)
	}
	server.pod, err = f.readyPod(ctx, claim)
	if ctx.Err() != nil {
		return nil, later("the upload server of PVC %s is not ready after %s; try again", name, f.Wait)
	}
	if err != nil {
		return nil, err
	}
	server.Address = server.pod.Status.PodIP
	return server, nil
}

func (f *Finder) claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	claim := &corev1.PersistentVolumeClaim{}
	err := f.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, claim)
	switch {
	case apierrors.IsNotFound(err):
		return nil, later("rejecting Upload Request for PVC %s that doesn't exist", name)
	case err != nil:
		return nil, fmt.Errorf("read the claim %s: %w", name, err)
	}
	return claim, nil
}

// isPopulated tells that another claim stands in for this one until the upload has ended.
func isPopulated(claim *corev1.PersistentVolumeClaim) bool {
	ref := claim.Spec.DataSourceRef
	return ref != nil && ref.APIGroup != nil && *ref.APIGroup == cdiv1.SchemeGroupVersion.Group && ref.Kind == cdiv1.VolumeUploadSourceRef
}

// prime waits until the claim that stands in for another is known.
func (f *Finder) prime(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	name := claim.Annotations[names.AnnPVCPrime]
	if name == "" {
		err := f.follow(ctx, claims(), claim.Namespace, claim.Name, func(obj any, gone bool) bool {
			now, ok := obj.(*corev1.PersistentVolumeClaim)
			if ok {
				name = now.Annotations[names.AnnPVCPrime]
			}
			return gone || name != ""
		})
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
	}
	prime := &corev1.PersistentVolumeClaim{}
	err := fmt.Errorf("%w", context.DeadlineExceeded)
	if name != "" {
		err = f.Client.Get(ctx, client.ObjectKey{Namespace: claim.Namespace, Name: name}, prime)
	}
	if apierrors.IsNotFound(err) || ctx.Err() != nil || name == "" {
		return nil, later("rejecting Upload Request for PVC %s, PVC' wasn't created yet", claim.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the claim %s: %w", name, err)
	}
	return prime, nil
}

// readyPod waits until the upload server's pod is ready.
func (f *Finder) readyPod(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*corev1.Pod, error) {
	name := claim.Annotations[names.AnnUploadPod]
	if name == "" {
		name = names.UploadPod(claim.Name)
	}
	var ready *corev1.Pod
	err := f.follow(ctx, pods(), claim.Namespace, name, func(obj any, gone bool) bool {
		pod, ok := obj.(*corev1.Pod)
		if ok && !gone && serves(pod) {
			ready = pod
		}
		return ready != nil
	})
	return ready, err
}

func serves(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil || pod.Status.PodIP == "" || pod.Status.Phase != corev1.PodRunning {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// kind makes an object and a list of the kind that is followed.
type kind struct {
	one  client.Object
	list client.ObjectList
}

func claims() kind { return kind{&corev1.PersistentVolumeClaim{}, &corev1.PersistentVolumeClaimList{}} }
func pods() kind   { return kind{&corev1.Pod{}, &corev1.PodList{}} }

// follow tells done about an object as it is and whenever it changes, until done says so or ctx ends.
func (f *Finder) follow(ctx context.Context, k kind, namespace, name string, done func(obj any, gone bool) bool) error {
	for {
		err := f.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, k.one)
		switch {
		case err == nil && done(k.one, false):
			return nil
		case apierrors.IsNotFound(err) && done(nil, true):
			return nil
		case client.IgnoreNotFound(err) != nil:
			return fmt.Errorf("read %s/%s: %w", namespace, name, err)
		}
		// Without a version, a watch begins with what is there, and so misses nothing since the question before.
		events, err := f.Client.Watch(ctx, k.list, client.InNamespace(namespace), client.MatchingFieldsSelector{
			Selector: fields.OneTermEqualSelector("metadata.name", name),
		})
		if err != nil {
			return fmt.Errorf("watch %s/%s: %w", namespace, name, err)
		}
		finished, err := drain(ctx, events, name, done)
		if finished || err != nil {
			return err
		}
	}
}

func drain(ctx context.Context, events watch.Interface, name string, done func(obj any, gone bool) bool) (bool, error) {
	defer events.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open := <-events.ResultChan():
			if !open {
				return false, nil
			}
			if event.Type == watch.Error {
				// Too old, or the API server is going: begin again with what is there.
				if status := apierrors.FromObject(event.Object); apierrors.IsForbidden(status) || apierrors.IsUnauthorized(status) {
					return false, fmt.Errorf("watch %s: %w", name, status)
				}
				return false, nil
			}
			if obj, ok := event.Object.(client.Object); ok && obj.GetName() == name && done(event.Object, event.Type == watch.Deleted) {
				return true, nil
			}
		}
	}
}

// Gone returns when the upload server has ended or its node was given up, and when ctx ends.
func (f *Finder) Gone(ctx context.Context, s *Server) error {
	return f.follow(ctx, pods(), s.Namespace, s.pod.Name, func(obj any, gone bool) bool {
		pod, ok := obj.(*corev1.Pod)
		return gone || (ok && (pod.UID != s.pod.UID || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed))
	})
}
