// Package nodeclient is virt-api's end of the calls to the node agents (virt-handler).
package nodeclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/handover"
	"virtctl/internal/tlsfile"
)

const (
	// Port is where node agents listen.
	Port = 8186
	// AgentCommonName is the name in the node agents' server certificates.
	AgentCommonName = "kubevirt.io:system:node:virt-handler"
	// Subprotocol is the websocket subprotocol of all streams.
	Subprotocol = "plain.kubevirt.io"

	handshakeTimeout = 10 * time.Second
	answerTimeout    = 30 * time.Second
	// successorTimeout is how long a node may take to have a new agent. Launchers keep a stream longer than that.
	successorTimeout = 90 * time.Second
	maxStatus        = 64 << 10
)

// Locator finds the node agent of a node.
type Locator interface {
	// Address gives the IP address of the agent's pod.
	Address(ctx context.Context, node string) (string, error)
	// Next gives the addresses of agents that come to be ready there, until stop is called.
	Next(ctx context.Context, node string) (addresses <-chan string, stop func(), err error)
}

// Client calls node agents.
type Client struct {
	agents Locator
	http   *http.Client
	dialer *websocket.Dialer
	port   int
}

// TLS makes the configuration of the connections: we show the certificate of the role virt-handler's client, and believe only
// servers with the role of a node agent.
func TLS(own *tlsfile.KeyPair, authorities *tlsfile.Bundle) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS12,
		GetClientCertificate: own.Client,
		// Not less checking but other checking: see tlsfile.Bundle.Peer.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the chain and the role
		VerifyConnection:   authorities.Peer(AgentCommonName),
	}
}

// New makes a Client.
func New(config *tls.Config, agents Locator) *Client {
	dialer := &net.Dialer{Timeout: handshakeTimeout, KeepAlive: 15 * time.Second}
	return &Client{
		agents: agents, port: Port,
		http: &http.Client{
			Transport: &http.Transport{
				TLSClientConfig: config, DialContext: dialer.DialContext, TLSHandshakeTimeout: handshakeTimeout,
				ResponseHeaderTimeout: answerTimeout, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 2,
				TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		dialer: &websocket.Dialer{
			TLSClientConfig: config, NetDialContext: dialer.DialContext, HandshakeTimeout: handshakeTimeout,
			Subprotocols: []string{Subprotocol}, ReadBufferSize: 10240, WriteBufferSize: 10240,
		},
	}
}

// Put asks the agent of the VMI's node to do something, with the caller's body.
func (c *Client) Put(ctx context.Context, vmi *v1.VirtualMachineInstance, verb string, body []byte) error {
	response, err := c.do(ctx, http.MethodPut, vmi, verb, body)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// Get gives the agent's answer; the caller closes its body.
func (c *Client) Get(ctx context.Context, vmi *v1.VirtualMachineInstance, verb string) (*http.Response, error) {
	return c.do(ctx, http.MethodGet, vmi, verb, nil)
}

func (c *Client) do(ctx context.Context, method string, vmi *v1.VirtualMachineInstance, verb string, body []byte) (*http.Response, error) {
	address, err := c.agents.Address(ctx, vmi.Status.NodeName)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, c.at(address, "https", vmi, verb).String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call the node agent: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, unreachable(vmi, err)
	}
	if response.StatusCode/100 != 2 {
		return nil, statusError(vmi, response)
	}
	return response, nil
}

// Dial opens a stream to the agent of the VMI's node.
func (c *Client) Dial(ctx context.Context, vmi *v1.VirtualMachineInstance, verb string, query url.Values) (*websocket.Conn, error) {
	address, err := c.agents.Address(ctx, vmi.Status.NodeName)
	if err != nil {
		return nil, err
	}
	conn, _, err := c.dial(ctx, c.at(address, "wss", vmi, verb), vmi, query)
	return conn, err
}

// Resume goes on with a stream that the agent of the VMI's node has left to its successor, for whom it waits.
func (c *Client) Resume(ctx context.Context, vmi *v1.VirtualMachineInstance, verb, key string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, successorTimeout)
	defer cancel()
	addresses, stop, err := c.agents.Next(ctx, vmi.Status.NodeName)
	if err != nil {
		return nil, err
	}
	defer stop()
	for {
		select {
		case address := <-addresses:
			conn, answered, err := c.dial(ctx, c.at(address, "wss", vmi, verb), vmi, url.Values{handover.Resume: {key}})
			if answered {
				return conn, err
			} // else that was still the old one, which lets nobody in
		case <-ctx.Done():
			return nil, fmt.Errorf("node %q has no new virt-handler: %w", vmi.Status.NodeName, ctx.Err())
		}
	}
}

// dial offers the agent to take part in a handover. It tells whether an agent has answered at all.
func (c *Client) dial(ctx context.Context, target *url.URL, vmi *v1.VirtualMachineInstance, query url.Values) (_ *websocket.Conn, answered bool, _ error) {
	offer := url.Values{handover.Offer: {"true"}}
	maps.Copy(offer, query)
	target.RawQuery = offer.Encode()
	conn, response, err := c.dialer.DialContext(ctx, target.String(), nil) //nolint:bodyclose // closed by statusError; a hijacked one is the stream
	if err == nil {
		return conn, true, nil
	}
	if errors.Is(err, websocket.ErrBadHandshake) && response != nil {
		return nil, true, statusError(vmi, response)
	}
	return nil, false, unreachable(vmi, err)
}

// at is what an agent calls the VMI's verb.
func (c *Client) at(address, scheme string, vmi *v1.VirtualMachineInstance, verb string) *url.URL {
	u := &url.URL{Scheme: scheme, Host: net.JoinHostPort(address, strconv.Itoa(c.port))}
	return u.JoinPath("v1", "namespaces", vmi.Namespace, "virtualmachineinstances", vmi.Name, verb)
}

func unreachable(vmi *v1.VirtualMachineInstance, err error) error {
	return apierrors.NewInternalError(fmt.Errorf("reach virt-handler on node %q: %w; check its pod there", vmi.Status.NodeName, err))
}

// statusError passes the agent's Status on. What is not a Status comes from something between us and the agent.
func statusError(vmi *v1.VirtualMachineInstance, response *http.Response) error {
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxStatus))
	status := metav1.Status{}
	if err := json.Unmarshal(body, &status); err == nil && status.Kind == "Status" && status.Code >= 400 {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return apierrors.NewInternalError(fmt.Errorf("virt-handler on node %q answered %s: %s",
		vmi.Status.NodeName, response.Status, bytes.TrimSpace(body)))
}
