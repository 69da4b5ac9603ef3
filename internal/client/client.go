// Package client talks to a cluster's API server about virtual machines.
//
// It stands on client-go's REST client and the published API types only. The generated clientsets would register every
// Kubernetes type when the process starts and double the binary; a command-line program that answers in 20 ms cannot afford that.
package client

import (
	"fmt"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// Client is one connection to a cluster. It is safe for use by several goroutines.
type Client struct {
	config *rest.Config
	// short answers within the request timeout, long (watches, logs) has none.
	short rest.Interface
	long  rest.Interface
	dial  func() (*dialer, error)
}

// New makes a client. It sends nothing.
func New(config *rest.Config) (*Client, error) {
	own := rest.CopyConfig(config)
	own.APIPath, own.GroupVersion = "/", nil
	own.NegotiatedSerializer = statusSerializer()
	// JSON is what the bodies are decoded from below.
	own.ContentType, own.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	// The API server's priority and fairness does the throttling.
	own.QPS = -1
	short, err := rest.UnversionedRESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to %s: %w", config.Host, err)
	}
	endless := rest.CopyConfig(own)
	endless.Timeout = 0
	long, err := rest.UnversionedRESTClientFor(endless)
	if err != nil {
		return nil, fmt.Errorf("prepare the connection to %s: %w", config.Host, err)
	}
	return &Client{config: own, short: short, long: long, dial: sync.OnceValues(func() (*dialer, error) { return newDialer(own) })}, nil
}

// Config returns a copy of the configuration the client was made from.
func (c *Client) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Host is the API server's address.
func (c *Client) Host() string { return c.config.Host }

// REST is the bare REST client, for requests that have no typed form here.
func (c *Client) REST() rest.Interface { return c.short }

// statusSerializer knows only what a REST client needs to read an error answer.
func statusSerializer() runtime.NegotiatedSerializer {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme).WithoutConversion()
}

// Kind names one kind of object and where it lives.
type Kind struct {
	Group, Version, Kind, Plural, Singular string
	// Cluster is true when objects have no namespace.
	Cluster bool
}

// GroupVersion is the apiVersion of the kind's objects.
func (k Kind) GroupVersion() string {
	return schema.GroupVersion{Group: k.Group, Version: k.Version}.String()
}

// Name is how an object is called in `-o name` output, for example virtualmachine.kubevirt.io/web.
func (k Kind) Name(name string) string {
	if k.Group == "" {
		return k.Singular + "/" + name
	}
	return k.Singular + "." + k.Group + "/" + name
}

func (k Kind) path(namespace string) string {
	var b strings.Builder
	if k.Group == "" {
		b.WriteString("/api/")
	} else {
		b.WriteString("/apis/" + k.Group + "/")
	}
	b.WriteString(k.Version)
	if namespace != "" && !k.Cluster {
		b.WriteString("/namespaces/" + namespace)
	}
	b.WriteString("/" + k.Plural)
	return b.String()
}
