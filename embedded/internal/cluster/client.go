package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"virtctl/embedded/internal/options"
)

// Client talks to a running server.
type Client struct {
	options options.Options
	http    http.Client
}

// NewClient returns a client of the instance with these settings.
func NewClient(o options.Options) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", o.ControlSocket())
	}
	return &Client{options: o, http: http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// ErrNotRunning says that no server answers.
var ErrNotRunning = errors.New("the embedded cluster is not running: start it with 'virt-kube up'")

func (c *Client) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://virt-kube"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return nil, errors.Join(errors.New(strings.TrimSpace(string(text))), err)
	}
	return resp.Body, nil
}

// Status asks for the server's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	body, err := c.do(ctx, http.MethodGet, "/status")
	if err != nil {
		return st, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&st); err != nil {
		return st, fmt.Errorf("read status: %w", err)
	}
	return st, nil
}

// Unit tells a component of the host to start, stop or die.
func (c *Client) Unit(ctx context.Context, name, verb string) error {
	return c.post(ctx, "/units/"+name+"/"+verb)
}

// Node tells a node to start, stop, die, or lose and regain its network.
func (c *Client) Node(ctx context.Context, name, verb string) error {
	return c.post(ctx, "/nodes/"+name+"/"+verb)
}

// Stop tells the server to end.
func (c *Client) Stop(ctx context.Context) error { return c.post(ctx, "/stop") }

func (c *Client) post(ctx context.Context, path string) error {
	body, err := c.do(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	return body.Close()
}

// Follow calls report for each event of the start, and returns when it is done or failed.
func (c *Client) Follow(ctx context.Context, report func(Event)) error {
	body, err := c.do(ctx, http.MethodGet, "/progress")
	if err != nil {
		return err
	}
	defer body.Close()
	return follow(body, report)
}

// follow reads events until the last. An end without one means that the server died.
func follow(r io.Reader, report func(Event)) error {
	in := json.NewDecoder(r)
	for {
		var e Event
		if err := in.Decode(&e); err != nil {
			return fmt.Errorf("the server ended: %w", errors.Join(errServerDied, err))
		}
		if e.Error != "" {
			return errors.New(e.Error)
		}
		report(e)
		if e.Ready {
			return nil
		}
	}
}

var errServerDied = errors.New("no reason given")
