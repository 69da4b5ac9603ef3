// Package volume knows disks: data volumes and the claims below them, what happens to them, and why it does not.
package volume

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
)

// State is what is known about a disk at one moment; both are nil when neither exists.
type State struct {
	DV    *cdiv1.DataVolume
	Claim *corev1.PersistentVolumeClaim
}

// Phase is the disk's phase in one word.
func (s State) Phase() string {
	switch {
	case s.DV != nil && s.DV.Status.Phase != "":
		return string(s.DV.Status.Phase)
	case s.DV != nil:
		return "Pending"
	case s.Claim == nil:
		return "absent"
	case s.Claim.Annotations[names.AnnPodPhase] == string(corev1.PodSucceeded):
		return string(cdiv1.Succeeded)
	case s.Claim.Annotations[names.AnnPodReady] == "true":
		return string(cdiv1.UploadReady)
	case s.Claim.Annotations[names.AnnPodPhase] != "":
		return "pod " + s.Claim.Annotations[names.AnnPodPhase]
	}
	return string(s.Claim.Status.Phase)
}

// Filled tells whether the content is complete.
func (s State) Filled() bool {
	if s.DV != nil {
		return s.DV.Status.Phase == cdiv1.Succeeded
	}
	return s.Claim != nil && s.Claim.Annotations[names.AnnPodPhase] == string(corev1.PodSucceeded)
}

// Failed tells whether the disk was given up.
func (s State) Failed() bool { return s.DV != nil && s.DV.Status.Phase == cdiv1.Failed }

// Ready tells whether an upload can begin.
func (s State) Ready() bool {
	if s.DV != nil {
		return s.DV.Status.Phase == cdiv1.UploadReady
	}
	return s.Claim != nil && s.Claim.Annotations[names.AnnPodReady] == "true"
}

// Block tells whether the disk is a block device; without a claim nobody knows, and a file system is assumed.
func (s State) Block() bool {
	return s.Claim != nil && s.Claim.Spec.VolumeMode != nil && *s.Claim.Spec.VolumeMode == corev1.PersistentVolumeBlock
}

// Text is the phase with what the disk itself says about it.
func (s State) Text() string {
	text := s.Phase()
	if s.DV != nil && s.DV.Status.Progress != "" && s.DV.Status.Progress != "N/A" && !s.Filled() {
		text += " " + string(s.DV.Status.Progress)
	}
	if why := FromConditions(s); len(why) > 0 && !s.Filled() && !s.Ready() {
		text += ": " + strings.Join(why, "; ")
	}
	return text
}

// Load reads the present state; a disk that does not exist has a state too.
func Load(ctx context.Context, c *client.Client, namespace, name string) (State, error) {
	var s State
	dv, err := c.DataVolumes(namespace).Get(ctx, name)
	if err == nil {
		s.DV = dv
	} else if !absent(err) {
		return s, err
	}
	claim, err := c.Claims(namespace).Get(ctx, name)
	if err == nil {
		s.Claim = claim
	} else if !absent(err) {
		return s, err
	}
	return s, nil
}

// Watch tells fn the state, and again after each change, until fn says it is done, fn fails or the context ends.
func Watch(ctx context.Context, c *client.Client, namespace, name string, fn func(State) (bool, error)) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	changes := make(chan client.Change[State])
	go client.Gather(watching, c.DataVolumes(namespace), name, changes, func(s *State, dv *cdiv1.DataVolume) { s.DV = dv })
	go client.Gather(watching, c.Claims(namespace), name, changes, func(s *State, claim *corev1.PersistentVolumeClaim) { s.Claim = claim })
	var state State
	for missing := 2; ; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case next := <-changes:
			if next.Err != nil {
				return fmt.Errorf("watch %s: %w", name, next.Err)
			}
			next.Apply(&state)
			if next.Synced {
				missing--
			}
		}
		if missing > 0 {
			continue
		}
		if done, err := fn(state); done || err != nil {
			return err
		}
	}
}
