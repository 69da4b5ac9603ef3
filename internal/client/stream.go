package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	// Protocol is the websocket subprotocol of every stream: raw bytes in binary messages.
	Protocol = "plain.kubevirt.io"
	// pingEvery keeps idle sessions alive at load balancers; silentFor is when a peer that answers no ping counts as gone: long,
	// because a machine under load may be slow to answer, and TCP finds dead peers sooner.
	pingEvery        = 15 * time.Second
	silentFor        = 5 * time.Minute
	handshakeTimeout = 20 * time.Second
	streamBuffer     = 32 * 1024
)

// Stream is a byte stream to something in a virtual machine: its console, its screen, one of its ports.
type Stream struct {
	conn   *websocket.Conn
	reader io.Reader
	writes sync.Mutex
	stop   context.CancelFunc
	// goodbye is what the far end said when it closed normally.
	goodbye string
}

// CloseError says that the far end ended the stream in another way than by a normal close.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("the server closed the stream: %s (code %d)", e.Reason, e.Code)
	}
	if e.Code == websocket.CloseAbnormalClosure {
		return "the connection was lost"
	}
	return fmt.Sprintf("the server closed the stream (code %d)", e.Code)
}

// Lost tells whether the connection broke, as opposed to being ended by one side on purpose: then connecting again may help.
func (e *CloseError) Lost() bool {
	switch e.Code {
	case websocket.CloseAbnormalClosure, websocket.CloseGoingAway, websocket.CloseInternalServerErr, websocket.CloseServiceRestart:
		return true
	}
	return false
}

// Stream opens a subresource that is a byte stream.
func (c *Client) Stream(ctx context.Context, target Target, subresource string, query url.Values) (*Stream, error) {
	dialer, err := c.dial()
	if err != nil {
		return nil, err
	}
	return dialer.open(ctx, target.path(subresource), query)
}

// dialer opens websockets with everything the kubeconfig says: TLS, credentials, exec plugins, impersonation, proxy.
type dialer struct {
	base      *url.URL
	roundTrip http.RoundTripper
}

func newDialer(config *rest.Config) (*dialer, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("the server address %q of the kubeconfig is not usable: %w", config.Host, err)
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare TLS for %s: %w", config.Host, err)
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	tlsConfig = tlsConfig.Clone()
	tlsConfig.NextProtos = []string{"http/1.1"}
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	upgrade := &upgrader{websocket.Dialer{
		Proxy: proxy, TLSClientConfig: tlsConfig, NetDialContext: config.Dial, HandshakeTimeout: handshakeTimeout,
		Subprotocols: []string{Protocol}, ReadBufferSize: streamBuffer, WriteBufferSize: streamBuffer,
	}}
	wrapped, err := rest.HTTPWrappersForConfig(config, upgrade)
	if err != nil {
		return nil, fmt.Errorf("prepare the credentials for %s: %w", config.Host, err)
	}
	return &dialer{base: base, roundTrip: wrapped}, nil
}

func (d *dialer) open(ctx context.Context, path string, query url.Values) (*Stream, error) {
	address := *d.base
	address.Path = strings.TrimSuffix(address.Path, "/") + path
	address.RawQuery = query.Encode()
	result := &upgraded{}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, upgradedKey{}, result), http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("the server address %s is not usable: %w", address.Host, err)
	}
	resp, err := d.roundTrip.RoundTrip(req)
	if result.conn == nil {
		return nil, handshakeError(resp, err)
	}
	return newStream(result.conn), nil
}

// upgrader is the innermost round tripper: the wrappers above it have put the credentials into the request's headers.
type upgrader struct{ dialer websocket.Dialer }

type upgradedKey struct{}

// upgraded is where a connection is left for the caller: a round tripper can only return a response.
type upgraded struct{ conn *websocket.Conn }

func (u *upgrader) RoundTrip(req *http.Request) (*http.Response, error) {
	address := *req.URL
	address.Scheme = map[string]string{"https": "wss", "http": "ws"}[req.URL.Scheme]
	conn, resp, err := u.dialer.DialContext(req.Context(), address.String(), req.Header)
	if err != nil {
		return resp, err
	}
	if result, ok := req.Context().Value(upgradedKey{}).(*upgraded); ok {
		result.conn = conn
	}
	return resp, nil
}

// handshakeError turns a refused upgrade into the API error the server meant.
func handshakeError(resp *http.Response, err error) error {
	if resp == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		return err
	}
	body, readErr := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if readErr != nil {
		body = nil
	}
	status := &metav1.Status{}
	if json.Unmarshal(body, status) == nil && status.Kind == "Status" && status.Message != "" {
		if status.Code == 0 {
			status.Code = int32(resp.StatusCode)
		}
		return apierrors.FromObject(status)
	}
	text := strings.TrimSpace(string(body))
	if text == "" {
		text = http.StatusText(resp.StatusCode)
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(resp.StatusCode), Reason: reasonFor(resp.StatusCode),
		Message: fmt.Sprintf("the server refused the stream: %s (HTTP %d)", text, resp.StatusCode),
	}}
}

func reasonFor(code int) metav1.StatusReason {
	return map[int]metav1.StatusReason{
		http.StatusUnauthorized: metav1.StatusReasonUnauthorized, http.StatusForbidden: metav1.StatusReasonForbidden,
		http.StatusNotFound: metav1.StatusReasonNotFound, http.StatusConflict: metav1.StatusReasonConflict,
		http.StatusBadRequest: metav1.StatusReasonBadRequest, http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable,
		http.StatusInternalServerError: metav1.StatusReasonInternalError,
	}[code]
}

func newStream(conn *websocket.Conn) *Stream {
	ctx, stop := context.WithCancel(context.Background())
	s := &Stream{conn: conn, stop: stop}
	alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(silentFor)) }
	_ = alive("")
	conn.SetPongHandler(alive)
	go s.ping(ctx)
	return s
}

func (s *Stream) ping(ctx context.Context) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if s.conn.WriteControl(websocket.PingMessage, nil, now.Add(pingEvery)) != nil {
				return
			}
		}
	}
}

// Read reads the next bytes; message boundaries carry no meaning. A normal close is io.EOF, any other a *CloseError.
func (s *Stream) Read(p []byte) (int, error) {
	for {
		if s.reader == nil {
			// The time counts from here: whoever stopped his terminal for an hour finds the session where he left it.
			_ = s.conn.SetReadDeadline(time.Now().Add(silentFor))
			kind, reader, err := s.conn.NextReader()
			if err != nil {
				return 0, s.readError(err)
			}
			if kind != websocket.BinaryMessage {
				continue
			}
			s.reader = reader
		}
		n, err := s.reader.Read(p)
		if err != nil {
			s.reader = nil
			if !errors.Is(err, io.EOF) {
				return n, s.readError(err)
			}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Goodbye is what the far end said when it closed the stream normally, for example that it has ended.
func (s *Stream) Goodbye() string { return s.goodbye }

func (s *Stream) readError(err error) error {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		if closed.Code == websocket.CloseNormalClosure || closed.Code == websocket.CloseNoStatusReceived {
			s.goodbye = closed.Text
			return io.EOF
		}
		if closed.Code == websocket.CloseAbnormalClosure {
			return &CloseError{Code: closed.Code} // the text is gorilla's, not the server's
		}
		return &CloseError{Code: closed.Code, Reason: closed.Text}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return &CloseError{Code: websocket.CloseAbnormalClosure, Reason: "the server answered no ping for " + silentFor.String()}
	}
	if errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return &CloseError{Code: websocket.CloseAbnormalClosure}
}

// Write sends p as one message.
func (s *Stream) Write(p []byte) (int, error) {
	s.writes.Lock()
	defer s.writes.Unlock()
	if err := s.conn.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, fmt.Errorf("write to the stream: %w", err)
	}
	return len(p), nil
}

// Close says goodbye and ends the stream.
func (s *Stream) Close() error {
	s.stop()
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""),
		time.Now().Add(time.Second))
	return s.conn.Close()
}
