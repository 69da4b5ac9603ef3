// Package dial opens streams into running machines. It waits for a machine that is on its way, and says at once when there is
// nothing to wait for.
package dial

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
	"virtctl/internal/commands/await"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/target"
)

// Request is a stream that is wanted.
type Request struct {
	Target      client.Target
	Subresource string
	Query       url.Values
	// Patience is how long to wait for a machine that is starting, or a server that is coming back; 0 is one try.
	Patience time.Duration
	// Again is true when the stream had been open before: then a server that cannot be reached is one that is coming back.
	Again bool
	// Report is told what is waited for; it may be nil.
	Report func(text string)

	said string
}

// between is the pause before a server that failed is asked again.
const between = time.Second

// Open opens the stream.
func Open(ctx context.Context, c *client.Client, r Request) (*client.Stream, error) {
	stream, err := c.Stream(ctx, r.Target, r.Subresource, r.Query)
	if err == nil || r.Patience <= 0 {
		return stream, target.Explain(ctx, c, r.Target, err)
	}
	waiting, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	again := false
	for {
		again, err = r.next(waiting, c, err, again)
		if err != nil {
			return nil, err
		}
		// The stream must outlive the waiting.
		if stream, err = c.Stream(ctx, r.Target, r.Subresource, r.Query); err == nil {
			return stream, nil
		}
	}
}

// next decides what a refusal means: it returns when another try makes sense, and an error when none does. again tells that the
// machine was found running before this try, so that the same refusal is final.
func (r *Request) next(ctx context.Context, c *client.Client, refusal error, again bool) (bool, error) {
	if passing(refusal) || r.Again && problem.IsUnreachable(refusal) {
		r.say("the server is not ready, trying again: " + refusal.Error())
		return false, r.pause(ctx, refusal)
	}
	if !mayNotRunYet(refusal) || again {
		return false, target.Explain(ctx, c, r.Target, refusal)
	}
	running, err := r.awaitRunning(ctx, c, refusal)
	return running, err
}

// awaitRunning waits for a machine that is starting.
func (r *Request) awaitRunning(ctx context.Context, c *client.Client, refusal error) (bool, error) {
	goal := await.Running()
	judge := goal.Judge
	goal.Judge = func(s await.State) (await.Verdict, string) {
		verdict, text := judge(s)
		if verdict == await.Pending && !s.OnItsWay() {
			return await.Hopeless, text
		}
		return verdict, text
	}
	waiter := &await.Waiter{Client: c, Report: func(_ client.Target, seen string) { r.say("waiting for " + r.Target.Name + ": " + seen) }}
	state, err := waiter.For(ctx, r.Target, goal)
	switch {
	case err == nil:
		return true, nil
	case problem.CodeOf(err) != problem.Hopeless:
		return false, err
	case state.VM == nil && state.VMI != nil && state.VMI.Status.Phase == kubevirtv1.Failed:
		return false, problem.New(problem.Conflict, "%s %s has failed: %w", target.Word(r.Target), r.Target.Name, refusal)
	}
	return false, problem.New(problem.Conflict, "%s %s is not running (status %s); start it with \"virtctl start %s --wait\"",
		target.Word(r.Target), r.Target.Name, state.Phase(), target.Argument(r.Target))
}

func (r *Request) say(text string) {
	if r.Report != nil && text != r.said {
		r.Report(text)
	}
	r.said = text
}

func (r *Request) pause(ctx context.Context, refusal error) error {
	timer := time.NewTimer(between)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return context.Canceled
		}
		return problem.New(problem.Timeout, "the %s of %s could not be opened in time: %w", r.Subresource, r.Target.Name, refusal)
	}
}

// passing tells whether a refusal is the server's own trouble, which may be over soon.
func passing(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code >= http.StatusInternalServerError
}

// mayNotRunYet tells whether a refusal may be due to a machine that does not run yet.
func mayNotRunYet(err error) bool {
	return apierrors.IsBadRequest(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) && !problem.IsRouteMissing(err)
}
