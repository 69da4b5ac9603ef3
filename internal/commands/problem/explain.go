package problem

import (
	"context"
	"errors"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Explain gives an error's text as the user should read it; advice names the program as the user calls it.
func Explain(err error, program string) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	text := strings.TrimSpace(err.Error())
	// The method and the address of a request that never got an answer are our business, not the user's.
	var request *url.Error
	if errors.As(err, &request) {
		text = strings.Replace(text, request.Error(), request.Err.Error(), 1)
	}
	// The API server quotes aggregated servers' plain-text errors with this lead; it says nothing.
	text = strings.TrimPrefix(text, "the server rejected our request for an unknown reason: ")
	return strings.ReplaceAll(text, `"virtctl `, `"`+program+" ")
}

// Where says which cluster an error came from.
type Where struct {
	Program string
	// Command is the whole command, as in "virtctl create vm".
	Command string
	Server  string
	Context string
}

// Hints says what to do next about an error; it may be empty.
func Hints(err error, where Where) []string {
	switch {
	case errors.Is(err, ErrNoCluster):
		return []string{"name a kubeconfig with --kubeconfig or $KUBECONFIG, or make a cluster on this machine with \"" + where.Program + " install --embedded\""}
	case apierrors.IsUnauthorized(err):
		return []string{"the credentials of " + where.context() + " were refused; they may have expired: log in again or choose another context with --context"}
	case apierrors.IsForbidden(err):
		return forbidden(err)
	case IsRouteMissing(err):
		return []string{"the platform is missing in this cluster or does not know this request: see \"" + where.Program + " version\" and \"" + where.Program + " status\"; \"" + where.Program + " install\" installs or upgrades it"}
	case apierrors.IsServiceUnavailable(err):
		return []string{"a part of the platform does not answer: see \"" + where.Program + " status\""}
	case isCertificate(err):
		return []string{"the server's certificate does not fit " + where.context() + ": renew the kubeconfig, or name the right authority with --certificate-authority"}
	case !isStatus(err) && IsUnreachable(err):
		return []string{"the API server " + where.Server + " of " + where.context() + " cannot be reached: is the cluster running, is the network up, is this the right --context?"}
	case isManifest(err):
		return []string{"manifests are applied with kubectl: kubectl apply -f FILE; \"" + where.Program + "\" works on machines by name"}
	case isUsage(err):
		return []string{"see \"" + where.Command + " --help\""}
	}
	return nil
}

func (w Where) context() string {
	if w.Context == "" {
		return "this kubeconfig"
	}
	return "context \"" + w.Context + "\""
}

// forbidden names the role that carries the missing permission.
func forbidden(err error) []string {
	role := "kubevirt.io:edit"
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		message := status.Status().Message
		switch {
		case strings.Contains(message, " cannot get ") && !strings.Contains(message, "/"),
			strings.Contains(message, " cannot list "), strings.Contains(message, " cannot watch "):
			role = "kubevirt.io:view"
		case strings.Contains(message, "kubevirts"), strings.Contains(message, "at the cluster scope"):
			role = "cluster-admin"
		}
	}
	return []string{"the permission is part of the ClusterRole " + role + ": ask whoever administers the namespace for a RoleBinding to it"}
}

// IsRouteMissing recognises the answer to a request for an API that is not there, as opposed to an object that is not there.
func IsRouteMissing(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsNotFound(err) {
		return false
	}
	details := status.Status().Details
	return details == nil || details.Name == ""
}

func isCertificate(err error) bool { return strings.Contains(err.Error(), "x509:") }

// isManifest recognises a command line that hands over a manifest, as kubectl's do.
func isManifest(err error) bool {
	text := err.Error()
	for _, start := range []string{"unknown shorthand flag: 'f'", "unknown flag: --filename", `unknown command "apply"`, `unknown command "edit"`} {
		if strings.HasPrefix(text, start) {
			return true
		}
	}
	return false
}

// MayBeSkew tells whether a server of another version might have understood the request.
func MayBeSkew(err error) bool {
	return IsRouteMissing(err) || apierrors.IsBadRequest(err) || apierrors.IsInvalid(err) || apierrors.IsMethodNotSupported(err)
}
