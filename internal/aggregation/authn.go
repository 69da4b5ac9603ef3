// Package aggregation lets a server behind the API aggregation layer know who asks, and whether he may. Both are delegated to the
// Kubernetes API server: identities come in headers that only its aggregator's client certificate may set, permissions from
// SubjectAccessReviews.
package aggregation

import (
	"context"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
)

const (
	configMapNamespace = metav1.NamespaceSystem
	configMapName      = "extension-apiserver-authentication"
)

// Aggregator authenticates requests that the Kubernetes API server passes on. Certificate authority, allowed certificate
// names and header names follow the ConfigMap in which that server publishes them.
type Aggregator struct {
	authenticator.Request
	ca      *dynamiccertificates.ConfigMapCAController
	headers *headerrequest.RequestHeaderAuthRequestController
}

// NewAggregator makes an Aggregator. It knows nobody until Run has read the ConfigMap.
func NewAggregator(client kubernetes.Interface) (*Aggregator, error) {
	ca, err := dynamiccertificates.NewDynamicCAFromConfigMapController("aggregator", configMapNamespace, configMapName,
		"requestheader-client-ca-file", client)
	if err != nil {
		return nil, fmt.Errorf("follow the aggregator's certificate authority: %w", err)
	}
	headers := headerrequest.NewRequestHeaderAuthRequestController(configMapName, configMapNamespace, client,
		"requestheader-username-headers", "requestheader-uid-headers", "requestheader-group-headers",
		"requestheader-extra-headers-prefix", "requestheader-allowed-names")
	// The certificate's name is checked as well as its issuer: every component of the cluster may hold a certificate of that
	// issuer, only the aggregator holds one with an allowed name (CVE-2025-64432).
	proxy := headerrequest.NewDynamicVerifyOptionsSecure(ca.VerifyOptions,
		headerrequest.StringSliceProviderFunc(headers.AllowedClientNames),
		headerrequest.StringSliceProviderFunc(headers.UsernameHeaders),
		headerrequest.StringSliceProviderFunc(headers.UIDHeaders),
		headerrequest.StringSliceProviderFunc(headers.GroupHeaders),
		headerrequest.StringSliceProviderFunc(headers.ExtraHeaderPrefixes))
	return &Aggregator{Request: group.NewAuthenticatedGroupAdder(proxy), ca: ca, headers: headers}, nil
}

// Run follows the ConfigMap until ctx ends.
func (a *Aggregator) Run(ctx context.Context) {
	go a.headers.Run(ctx, 1)
	a.ca.Run(ctx, 1)
}

// Ready tells whether the ConfigMap has been read, and if not, why nobody can be authenticated.
func (a *Aggregator) Ready() error {
	if _, ok := a.ca.VerifyOptions(); !ok {
		return fmt.Errorf("no certificate authority from ConfigMap %s/%s yet; check that the ServiceAccount of this server is bound to"+
			" the role extension-apiserver-authentication-reader in %s", configMapNamespace, configMapName, configMapNamespace)
	}
	if len(a.headers.UsernameHeaders()) == 0 {
		return fmt.Errorf("no user name headers from ConfigMap %s/%s yet; check that the cluster's aggregation layer is configured",
			configMapNamespace, configMapName)
	}
	return nil
}

// identify gives the user of a request, or an error that says why there is none.
func identify(authn authenticator.Request, r *http.Request) (*authenticator.Response, error) {
	response, ok, err := authn.AuthenticateRequest(r)
	switch {
	case err != nil:
		return nil, fmt.Errorf("request is not authenticated: %w", err)
	case !ok || response.User == nil:
		return nil, fmt.Errorf("request is not authenticated: it did not come through the Kubernetes API server")
	}
	return response, nil
}
