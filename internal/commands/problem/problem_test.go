package problem_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"virtctl/internal/client"
	"virtctl/internal/commands/problem"
)

// Scripts rely on the codes: each kind of failure has its own, however deep it is wrapped.
func TestCodes(t *testing.T) {
	vms := schema.GroupResource{Group: "kubevirt.io", Resource: "virtualmachines"}
	for want, errs := range map[problem.Code][]error{
		problem.OK:      {nil},
		problem.Failure: {errors.New("?"), apierrors.NewInternalError(errors.New("?"))},
		problem.Usage:   {problem.Usagef("x"), errors.New("unknown flag: --x"), errors.New(`required flag(s) "a" not set`)},
		problem.NotFound: {
			apierrors.NewNotFound(vms, "web"), problem.New(problem.NotFound, "x"),
		},
		problem.Forbidden:   {apierrors.NewForbidden(vms, "web", nil), apierrors.NewUnauthorized("x")},
		problem.Conflict:    {apierrors.NewConflict(vms, "web", nil), apierrors.NewAlreadyExists(vms, "web"), &client.CloseError{Code: 1008}},
		problem.Timeout:     {context.DeadlineExceeded, apierrors.NewTimeoutError("x", 1)},
		problem.Unreachable: {&url.Error{Op: "Get", URL: "x", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, &client.CloseError{Code: 1006}, problem.ErrNoCluster, apierrors.NewServiceUnavailable("x")},
		problem.Invalid:     {apierrors.NewBadRequest("x"), apierrors.NewInvalid(schema.GroupKind{Kind: "VirtualMachine"}, "web", nil)},
		problem.Interrupted: {context.Canceled},
	} {
		for _, err := range errs {
			wrapped := err
			if err != nil && want != problem.Usage {
				wrapped = fmt.Errorf("cannot do it: %w", err)
			}
			if got := problem.CodeOf(wrapped); got != want {
				t.Errorf("%v has code %d, not %d", wrapped, got, want)
			}
		}
	}
}

// Every error that a user can do something about says what.
func TestHints(t *testing.T) {
	where := problem.Where{Program: "kubectl virt", Server: "https://host:6443", Context: "prod"}
	view := apierrors.NewForbidden(schema.GroupResource{Resource: "virtualmachines"}, "", errors.New(`User "eve" cannot list resource "virtualmachines" in API group "kubevirt.io" in the namespace "x"`))
	for text, err := range map[string]error{
		`the credentials of context "prod" were refused`:       apierrors.NewUnauthorized("x"),
		"ClusterRole kubevirt.io:view":                         view,
		`"kubectl virt install"`:                               apierrors.NewGenericServerResponse(404, "get", schema.GroupResource{}, "", "", 0, false),
		`the API server https://host:6443 of context "prod"`:   &url.Error{Op: "Get", URL: "x", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}},
		`the server's certificate does not fit context "prod"`: errors.New("tls: failed to verify certificate: x509: unknown authority"),
		`"kubectl virt install --embedded"`:                    problem.ErrNoCluster,
		`see "kubectl virt status"`:                            apierrors.NewServiceUnavailable("x"),
	} {
		if hints := strings.Join(problem.Hints(err, where), "\n"); !strings.Contains(hints, text) {
			t.Errorf("%v: hints %q, want %q", err, hints, text)
		}
	}
	if text := problem.Explain(&url.Error{Op: "Get", URL: "https://x/very/long", Err: errors.New("refused")}, "virtctl"); text != "refused" {
		t.Errorf("explained as %q", text)
	}
}
