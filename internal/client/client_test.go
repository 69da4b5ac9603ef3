package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	kubevirtv1 "kubevirt.io/api/core/v1"

	"virtctl/internal/client"
)

// serve makes a server with TLS and a client for it.
func serve(t *testing.T, handler http.HandlerFunc, change func(*rest.Config)) *client.Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	if change != nil {
		change(config)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func upgrade(t *testing.T, w http.ResponseWriter, r *http.Request) *websocket.Conn {
	t.Helper()
	upgrader := websocket.Upgrader{Subprotocols: []string{client.Protocol}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		t.Error(err)
	}
	return conn
}

// A user whose cluster asks for a token, an exec plugin or impersonation gets a console like everybody else.
func TestStreamCarriesCredentials(t *testing.T) {
	plugin := filepath.Join(t.TempDir(), "plugin")
	script := `#!/bin/sh
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-plugin"}}'
`
	if err := os.WriteFile(plugin, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*rest.Config)
		header string
		want   string
	}{
		"token": {func(c *rest.Config) { c.BearerToken = "secret" }, "Authorization", "Bearer secret"},
		"exec plugin": {func(c *rest.Config) {
			c.ExecProvider = &clientcmdapi.ExecConfig{
				Command: plugin, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
			}
		}, "Authorization", "Bearer from-plugin"},
		"impersonation": {func(c *rest.Config) { c.Impersonate.UserName = "eve" }, "Impersonate-User", "eve"},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got <- r.Header.Get(test.header)
				if conn := upgrade(t, w, r); conn != nil {
					_ = conn.Close()
				}
			}, test.change)
			stream, err := c.Stream(t.Context(), client.VMI("ns", "web"), "console", nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.Close()
			if value := <-got; value != test.want {
				t.Errorf("%s: %q, want %q", test.header, value, test.want)
			}
		})
	}
}

// A proxy named in the kubeconfig is used for streams too (kubevirt issue 12808).
func TestStreamUsesProxy(t *testing.T) {
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host
		target, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(target, conn); _ = target.Close() }()
		_, _ = io.Copy(conn, target)
		_ = conn.Close()
	}))
	t.Cleanup(proxy.Close)
	where, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if conn := upgrade(t, w, r); conn != nil {
			_ = conn.WriteMessage(websocket.BinaryMessage, []byte("through the proxy"))
			_ = conn.Close()
		}
	}, func(config *rest.Config) { config.Proxy = http.ProxyURL(where) })
	stream, err := c.Stream(t.Context(), client.VMI("ns", "web"), "console", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	buffer := make([]byte, 100)
	n, err := stream.Read(buffer)
	if string(buffer[:n]) != "through the proxy" {
		t.Errorf("read %q, %v", buffer[:n], err)
	}
	if got := <-asked; !strings.HasPrefix(got, "CONNECT 127.0.0.1:") {
		t.Errorf("the proxy was asked %q", got)
	}
}

// Message boundaries and text messages mean nothing; a normal close is the end, any other says why.
func TestStreamReads(t *testing.T) {
	for name, test := range map[string]struct {
		code    int
		reason  string
		goodbye string
		lost    bool
	}{
		"normal":    {websocket.CloseNormalClosure, "the stream has ended", "the stream has ended", false},
		"taken":     {websocket.ClosePolicyViolation, "another session has taken over", "", false},
		"server":    {websocket.CloseInternalServerErr, "connection lost", "", true},
		"no goodby": {0, "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("preserveSession") != "true" || r.URL.Path != "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachineinstances/web/vnc" {
					t.Errorf("asked for %s", r.URL)
				}
				conn := upgrade(t, w, r)
				_ = conn.WriteMessage(websocket.BinaryMessage, []byte("one"))
				_ = conn.WriteMessage(websocket.TextMessage, []byte("not meant"))
				_ = conn.WriteMessage(websocket.BinaryMessage, nil)
				_ = conn.WriteMessage(websocket.BinaryMessage, []byte("two"))
				if test.code != 0 {
					_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(test.code, test.reason), time.Now().Add(time.Second))
				}
				_ = conn.Close()
			}, nil)
			stream, err := c.Stream(t.Context(), client.VMI("ns", "web"), "vnc", url.Values{"preserveSession": {"true"}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stream.Close() }()
			body, err := io.ReadAll(stream)
			if string(body) != "onetwo" {
				t.Errorf("read %q", body)
			}
			var closed *client.CloseError
			if normal := test.code == websocket.CloseNormalClosure; normal != (err == nil) || !normal && (!errors.As(err, &closed) || closed.Lost() != test.lost) {
				t.Errorf("ended with %v", err)
			}
			if stream.Goodbye() != test.goodbye {
				t.Errorf("goodbye %q", stream.Goodbye())
			}
		})
	}
}

// What the server refuses before the upgrade reads like any other refusal of the API.
func TestStreamRefused(t *testing.T) {
	for name, test := range map[string]struct {
		code  int
		body  string
		check func(error) bool
		text  string
	}{
		"status":    {400, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"No serial consoles are present.","reason":"BadRequest","code":400}`, apierrors.IsBadRequest, "No serial consoles are present."},
		"plain":     {403, "not for you", apierrors.IsForbidden, "the server refused the stream: not for you (HTTP 403)"},
		"nothing":   {503, "", apierrors.IsServiceUnavailable, "the server refused the stream: Service Unavailable (HTTP 503)"},
		"not found": {404, "404 page not found", apierrors.IsNotFound, "404 page not found"},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.code)
				_, _ = io.WriteString(w, test.body)
			}, nil)
			_, err := c.Stream(t.Context(), client.VMI("ns", "web"), "console", nil)
			if !test.check(err) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("refused with %v", err)
			}
		})
	}
}

func object(name, version string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"ns","resourceVersion":%q}}`, name, version)
}

// A watch that breaks, expires or misses something loses nothing for whoever follows.
func TestFollowSurvivesBrokenWatches(t *testing.T) {
	lists, watches := 0, 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "true" {
			lists++
			switch lists {
			case 1:
				_, _ = fmt.Fprintf(w, `{"metadata":{"resourceVersion":"10"},"items":[%s,%s]}`, object("a", "5"), object("b", "6"))
			case 2:
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				_, _ = fmt.Fprintf(w, `{"metadata":{"resourceVersion":"20"},"items":[%s,%s]}`, object("a", "15"), object("c", "16"))
			}
			return
		}
		watches++
		switch watches {
		case 1: // ends after one event; the next goes on from there
			_, _ = fmt.Fprintf(w, `{"type":"MODIFIED","object":%s}`, object("a", "11"))
		case 2:
			if got := r.URL.Query().Get("resourceVersion"); got != "11" {
				t.Errorf("watched from %s, not 11", got)
			}
			_, _ = io.WriteString(w, `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12"}}}`)
		case 3:
			if got := r.URL.Query().Get("resourceVersion"); got != "12" {
				t.Errorf("watched from %s, not 12", got)
			}
			_, _ = io.WriteString(w, `{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"too old","reason":"Expired","code":410}}`)
		default:
			_, _ = fmt.Fprintf(w, `{"type":"DELETED","object":%s}`, object("c", "21"))
		}
	}, nil)
	var seen []string
	err := c.VMs("ns").Follow(t.Context(), client.ListOptions{}, func(e client.Event[kubevirtv1.VirtualMachine]) (bool, error) {
		line := string(e.Type)
		if e.Object != nil {
			line += " " + e.Object.Name + "/" + e.Object.ResourceVersion
		}
		seen = append(seen, line)
		return line == "DELETED c/21", nil
	})
	want := []string{"ADDED a/5", "ADDED b/6", "BOOKMARK", "MODIFIED a/11", "MODIFIED a/15", "ADDED c/16", "DELETED b/6", "DELETED c/21"}
	if err != nil || !slices.Equal(seen, want) {
		t.Errorf("saw %v, %v; want %v", seen, err, want)
	}
}

// Refusals end following at once: nothing is gained by asking again.
func TestFollowEndsWithRefusal(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") != "true" {
			_, _ = io.WriteString(w, `{"metadata":{"resourceVersion":"1"},"items":[]}`)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"Forbidden","code":403}`)
	}, nil)
	err := c.VMs("ns").Follow(t.Context(), client.ListOptions{}, func(client.Event[kubevirtv1.VirtualMachine]) (bool, error) { return false, nil })
	if !apierrors.IsForbidden(err) {
		t.Errorf("ended with %v", err)
	}
	own := errors.New("mine")
	err = c.VMs("ns").Follow(t.Context(), client.ListOptions{}, func(client.Event[kubevirtv1.VirtualMachine]) (bool, error) { return false, own })
	if !errors.Is(err, own) {
		t.Errorf("ended with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = c.VMs("ns").Follow(ctx, client.ListOptions{}, func(client.Event[kubevirtv1.VirtualMachine]) (bool, error) { return false, nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// Options travel in the body, dry runs as the API wants them.
func TestRequests(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("Content-Type") + " " + string(body))
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": map[string]any{"name": "web"}})
	}, nil)
	ctx, vm := t.Context(), &kubevirtv1.VirtualMachine{}
	vm.Name = "web"
	const base = "/apis/subresources.kubevirt.io/v1/namespaces/ns/"
	for want, call := range map[string]func() error{
		"PUT " + base + `virtualmachines/web/start application/json {"paused":true}`: func() error {
			return c.Start(ctx, "ns", "web", &kubevirtv1.StartOptions{Paused: true})
		},
		"PUT " + base + `virtualmachineinstances/web/pause application/json {"dryRun":["All"]}`: func() error {
			return c.Pause(ctx, "ns", "web", &kubevirtv1.PauseOptions{DryRun: []string{"All"}})
		},
		"PATCH /apis/kubevirt.io/v1/namespaces/ns/virtualmachines/web?dryRun=All&fieldManager=me&force=true application/apply-patch+yaml {}": func() error {
			_, err := c.VMs("ns").Apply(ctx, "web", struct{}{}, client.ApplyOptions{Manager: "me", Force: true, DryRun: true})
			return err
		},
		"GET /apis/kubevirt.io/v1/virtualmachines?fieldSelector=metadata.name%3Dweb&labelSelector=a%3Db": func() error {
			_, err := c.VMs("").List(ctx, client.ListOptions{LabelSelector: "a=b", FieldSelector: "metadata.name=web"})
			return err
		},
		"GET /api/v1/nodes/n1": func() error {
			node, err := c.Nodes().Get(ctx, "n1")
			if err == nil && (node.Kind != "Node" || node.APIVersion != "v1") {
				t.Errorf("type %s %s", node.APIVersion, node.Kind)
			}
			return err
		},
		"GET /api/v1/namespaces/ns/pods/p/log?container=compute": func() error {
			log, err := c.Log(ctx, "ns", "p", url.Values{"container": {"compute"}})
			if err == nil {
				_ = log.Close()
			}
			return err
		},
	} {
		if err := call(); err != nil || got != want {
			t.Errorf("sent %q, %v; want %q", got, err, want)
		}
	}
}
