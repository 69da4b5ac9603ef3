package volume

import (
	"context"
	"errors"
	"strings"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
)

// Goal is a state of a disk to wait for.
type Goal struct {
	// Name is what is waited for, as in "fedora is not filled in time".
	Name    string
	Reached func(State) bool
	// Gone is true when the goal is that nothing is left.
	Gone bool
}

// Goals finds the goal by its word.
func Goals(word string) (Goal, error) {
	switch strings.ToLower(word) {
	case "ready", "succeeded", "filled":
		return Goal{Name: "filled", Reached: State.Filled}, nil
	case "uploadready":
		return Goal{Name: "ready for an upload", Reached: func(s State) bool { return s.Ready() || s.Filled() }}, nil
	case "deleted", "delete":
		return Goal{Name: "gone", Gone: true, Reached: func(s State) bool { return s.DV == nil && s.Claim == nil }}, nil
	}
	return Goal{}, problem.Usagef("--for %q is not a state of a disk: use ready, uploadready or deleted", word)
}

// Until waits for a goal; report is told each change of what is seen.
func Until(ctx context.Context, c *client.Client, namespace, name string, goal Goal, report func(string)) error {
	var last State
	shown := ""
	err := Watch(ctx, c, namespace, name, func(s State) (bool, error) {
		last = s
		switch {
		case goal.Reached(s):
			return true, nil
		case s.DV == nil && s.Claim == nil:
			return false, problem.New(problem.NotFound, "there is no disk %q in namespace %q; see \"virtctl get disks -n %s\"", name, namespace, namespace)
		case s.Failed() && !goal.Gone:
			return false, problem.New(problem.Hopeless, "disk %s cannot become %s: %s; see \"virtctl describe dv %s -n %s\"",
				name, goal.Name, because(ctx, c, s), name, namespace)
		}
		if text := s.Text(); text != shown {
			shown = text
			report(text)
		}
		return false, nil
	})
	if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return problem.New(problem.Timeout, "disk %s is not %s in time: %s; wait longer with --timeout, or see \"virtctl describe dv %s -n %s\"",
			name, goal.Name, because(ctx, c, last), name, namespace)
	}
	return err
}

func because(ctx context.Context, c *client.Client, s State) string {
	text := "phase " + s.Phase()
	if why := Why(ctx, c, s); len(why) > 0 {
		text += ": " + strings.Join(why, "; ")
	}
	return text
}
