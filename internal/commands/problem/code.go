// Package problem turns errors into exit codes and into words that tell the user what to do next.
package problem

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"virtctl/internal/client"
	"virtctl/internal/commands/terminal"
)

// Code is the exit status of the program. docs/reference/exit-codes.md is generated from Codes.
type Code int

// The exit codes.
const (
	OK          Code = 0
	Failure     Code = 1
	Usage       Code = 2
	NotFound    Code = 3
	Forbidden   Code = 4
	Conflict    Code = 5
	Timeout     Code = 6
	Unreachable Code = 7
	Hopeless    Code = 8
	Invalid     Code = 9
	Interrupted Code = 130
)

// Described is an exit code with its meaning.
type Described struct {
	Code    Code
	Meaning string
}

// Codes lists every exit code of the program's own.
func Codes() []Described {
	return []Described{
		{OK, "done"},
		{Failure, "failed for a reason that has no code of its own, or several targets failed for different reasons"},
		{Usage, "the command line is wrong: unknown flag, missing argument, value out of range"},
		{NotFound, "the named object, or the platform itself, does not exist in the cluster"},
		{Forbidden, "the credentials were refused (401), or they lack a permission (403)"},
		{Conflict, "the object's present state does not allow this: already running, not running, changed meanwhile, exists already"},
		{Timeout, "the time given with --timeout was over before the goal was reached"},
		{Unreachable, "the API server could not be reached, or the connection was lost"},
		{Hopeless, "waiting was given up because the goal can no longer be reached, for example the guest failed"},
		{Invalid, "the cluster refused the object or the request as invalid (400, 422)"},
		{Interrupted, "interrupted by Ctrl+C or a termination signal"},
	}
}

// ErrNoCluster says that nothing names a cluster.
var ErrNoCluster = errors.New("no cluster is configured: there is no kubeconfig and this is not a pod")

// coded is an error with an exit code of its own.
type coded struct {
	code   Code
	err    error
	silent bool
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

// With gives an error an exit code.
func With(code Code, err error) error {
	if err == nil {
		return nil
	}
	return &coded{code: code, err: err}
}

// New makes an error with an exit code.
func New(code Code, format string, args ...any) error {
	return &coded{code: code, err: fmt.Errorf(format, args...)}
}

// Usagef makes an error about the command line.
func Usagef(format string, args ...any) error { return New(Usage, format, args...) }

// Silent makes an error that ends the program with a code and prints nothing: everything has been said already.
func Silent(code Code) error {
	return &coded{code: code, err: fmt.Errorf("exit status %d", code), silent: true}
}

// IsSilent tells whether nothing should be printed for the error.
func IsSilent(err error) bool {
	var c *coded
	return errors.As(err, &c) && c.silent
}

// CodeOf is the exit code for an error.
func CodeOf(err error) Code {
	var c *coded
	var closed *client.CloseError
	switch {
	case err == nil:
		return OK
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.As(err, &closed):
		if !closed.Lost() {
			return Conflict // somebody else has it now
		}
		return Unreachable
	case isStatus(err):
		return codeOfStatus(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case IsUnreachable(err), errors.Is(err, ErrNoCluster):
		return Unreachable
	case isUsage(err):
		return Usage
	}
	return Failure
}

func isStatus(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

func codeOfStatus(err error) Code {
	switch {
	case apierrors.IsNotFound(err):
		return NotFound
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return Forbidden
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return Conflict
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return Timeout
	case apierrors.IsServiceUnavailable(err):
		return Unreachable
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return Invalid
	}
	return Failure
}

// IsUnreachable tells whether the request never got an answer.
func IsUnreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var request *url.Error
	return errors.As(err, &op) || errors.As(err, &dns) || errors.As(err, &request) && !errors.Is(err, context.Canceled)
}

// isUsage recognises cobra's own errors, which have no type.
func isUsage(err error) bool {
	text := err.Error()
	for _, start := range []string{
		"unknown command", "unknown flag", "unknown shorthand flag", "invalid argument", "required flag", "flag needs an argument",
		"accepts ", "requires at least", "if any flags in the group", "at least one of the flags in the group", "bad flag syntax",
	} {
		if strings.HasPrefix(text, start) {
			return true
		}
	}
	return false
}

// Join makes one error of many: none, the only one, or an exit code that fits after each has been printed.
func Join(streams *terminal.Streams, program string, errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	code := CodeOf(errs[0])
	for _, err := range errs {
		if errors.Is(err, context.Canceled) {
			return Silent(Interrupted)
		}
		streams.Say("error: %s\n", Explain(err, program))
		if CodeOf(err) != code {
			code = Failure
		}
	}
	return Silent(code)
}
