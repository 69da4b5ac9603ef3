package imageupload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"virtctl/internal/cdi/names"
	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// errDeadline ends a wait that took too long.
var errDeadline = errors.New("the time is over")

// follow watches the volume until fn is content, and shows each phase with its reason.
func (j *job) follow(ctx context.Context, fn func(volume.State) (bool, error)) (volume.State, error) {
	var last volume.State
	shown := ""
	seen := false
	err := volume.Watch(ctx, j.client, j.namespace, j.options.Name, func(state volume.State) (bool, error) {
		last = state
		j.result.Phase = state.Phase()
		if state.DV == nil && state.Claim == nil {
			if seen {
				return false, problem.New(problem.NotFound, "%s %s/%s was deleted meanwhile", j.kind().Kind, j.namespace, j.options.Name)
			}
			return false, nil
		}
		seen = true
		if text := state.Text(); text != shown {
			shown = text
			j.factory.Streams.Say("%s: %s\n", j.options.Name, text)
		}
		if state.Failed() {
			return false, problem.New(problem.Hopeless, "it has failed: %s", j.because(ctx, state))
		}
		return fn(state)
	})
	return last, err
}

// because joins the reasons that the cluster gives for a state.
func (j *job) because(ctx context.Context, state volume.State) string {
	if why := volume.Why(ctx, j.client, state); len(why) > 0 {
		return strings.Join(why, "; ")
	}
	return "phase " + state.Phase()
}

// ready waits until the upload server takes data.
func (j *job) ready(ctx context.Context) error {
	waiting, stop := context.WithTimeoutCause(ctx, time.Duration(j.options.WaitSecs)*time.Second, errDeadline)
	defer stop()
	waiting, refused := context.WithCancelCause(waiting)
	defer refused(nil)
	go j.warn(waiting, refused)
	state, err := j.follow(waiting, func(s volume.State) (bool, error) { return s.Ready() || s.Filled(), nil })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if cause := context.Cause(waiting); err != nil && cause != nil {
		err = cause
	}
	switch {
	case errors.Is(err, errDeadline):
		return j.left(problem.New(problem.Timeout, "the upload server was not ready after %d seconds (phase %s): %s; wait longer with --wait-secs",
			j.options.WaitSecs, state.Phase(), j.because(ctx, state)))
	case err != nil:
		return j.left(err)
	}
	return nil
}

// settled waits until an upload server that went away is back; true when the disk has been filled meanwhile.
func (j *job) settled(ctx context.Context) (bool, error) {
	waiting, stop := context.WithTimeoutCause(ctx, time.Duration(j.options.WaitSecs)*time.Second, errDeadline)
	defer stop()
	state, err := j.follow(waiting, func(s volume.State) (bool, error) { return s.Ready() || s.Filled(), nil })
	if errors.Is(err, errDeadline) {
		err = problem.New(problem.Timeout, "the upload server did not come back within %d seconds (phase %s): %s; wait longer with --wait-secs",
			j.options.WaitSecs, state.Phase(), j.because(ctx, state))
	}
	return err == nil && state.Filled(), err
}

// warn shows the warnings about the volume as they come, and ends the wait at those that nothing will mend.
func (j *job) warn(ctx context.Context, refuse context.CancelCauseFunc) {
	since := j.began.Add(-time.Second)
	choose := client.ListOptions{FieldSelector: "involvedObject.name=" + j.options.Name}
	// Who may not read events does without.
	_ = j.client.Events(j.namespace).Follow(ctx, choose, func(e client.Event[corev1.Event]) (bool, error) {
		if e.Object == nil || e.Object.Type != corev1.EventTypeWarning || e.Initial && lastSeen(e.Object).Before(since) {
			return false, nil
		}
		text := strings.TrimSpace(e.Object.Message) + " (" + e.Object.Reason + ")"
		if e.Object.Reason == names.EventErrClaimNotValid {
			refuse(problem.New(problem.Invalid, "the claim is not valid: %s", text))
			return true, nil
		}
		j.factory.Streams.Say("%s: warning: %s\n", j.options.Name, text)
		return false, nil
	})
}

func lastSeen(e *corev1.Event) time.Time {
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time, e.FirstTimestamp.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp.Time
}

// processed waits until the cluster has made a disk of what it was sent. An upload server that was killed before anybody knew its
// result is followed by one that waits: it is asked what it has, and sent what it lacks.
func (j *job) processed(ctx context.Context) error {
	var state volume.State
	var err error
	for again := true; again && err == nil; {
		away := false
		state, err = j.follow(ctx, func(s volume.State) (bool, error) {
			away = away || !s.Ready()
			again = away && s.Ready()
			return s.Filled() || again, nil
		})
		if again && err == nil {
			err = j.send(ctx)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			err = j.left(err)
		}
		return err
	}
	if state.Claim == nil {
		return nil
	}
	return j.arrived(ctx, state.Claim.Annotations[names.AnnContentDigest], state.Claim.Annotations[names.AnnContentLength])
}

// arrived compares what the disk was made of with what was sent. Where an earlier run sent it, that may be the other content of the same file.
func (j *job) arrived(ctx context.Context, there, length string) error {
	if there == "" || j.result.Digest == "" || there == j.result.Digest {
		return nil
	}
	var same *content
	if j.source.resumable() {
		var err error
		if same, err = j.source.find(ctx, there, length); err != nil {
			return err
		}
	}
	if same == nil {
		return j.left(fmt.Errorf("the content of the disk is not what was sent: its digest is %s, not %s; delete it and upload again", there, j.result.Digest))
	}
	j.sends(same)
	j.result.Digest = there
	return nil
}
