package subresource

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/server/api/routes"
)

// serveOver serves one handler on a real connection, which websockets need.
func serveOver(t *testing.T, h *harness, handler routes.Handler, path map[string]string) *httptest.Server {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.SetPathValue("namespace", "ns")
		r.SetPathValue("name", "vm")
		for k, v := range path {
			r.SetPathValue(k, v)
		}
		h.Handlers()[handler].ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	return web
}

// connect dials as clients do, and gives the Status of a refusal.
func connect(t *testing.T, web *httptest.Server, query string) (*websocket.Conn, *metav1.Status) {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{subprotocol, "base64url.bearer.authorization.k8s.io.abc"}}
	conn, response, err := dialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/?"+query, nil)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
		return conn, nil
	}
	if response == nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	status := &metav1.Status{}
	if err := json.Unmarshal(body, status); err != nil || int(status.Code) != response.StatusCode {
		t.Fatalf("%s: %s", response.Status, body)
	}
	return nil, status
}

// echoAgent is a node agent whose guest repeats what it is sent.
func echoAgent(t *testing.T) func() (*websocket.Conn, error) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		for {
			kind, message, err := c.ReadMessage()
			if err != nil {
				return
			}
			_ = c.WriteMessage(kind, message)
		}
	}))
	t.Cleanup(web.Close)
	return func() (*websocket.Conn, error) {
		c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http"), nil) //nolint:bodyclose // hijacked
		return c, err
	}
}

func TestConsoleAndVNC(t *testing.T) {
	for handler, want := range map[routes.Handler]struct{ query, asked, session string }{
		routes.Console: {"", "console?", "console ns/vm"},
		routes.VNC:     {"preserveSession=true", "vnc?preserveSession=true", "vnc ns/vm"},
	} {
		h := setUp(t, nil, aVMI("Running", "", ""))
		h.node.dial = echoAgent(t)
		conn, refused := connect(t, serveOver(t, h, handler, nil), want.query)
		if refused != nil {
			t.Fatalf("%s: %+v", handler, refused)
		}
		if conn.Subprotocol() != subprotocol {
			t.Errorf("%s: subprotocol %q", handler, conn.Subprotocol())
		}
		_ = conn.WriteMessage(websocket.BinaryMessage, []byte("hello"))
		if _, got, err := conn.ReadMessage(); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q %v", handler, got, err)
		}
		if h.node.asked[0] != want.asked || h.sessions.open[0] != want.session {
			t.Errorf("%s: %v %v", handler, h.node.asked, h.sessions.open)
		}
	}
}

// A refusal must reach the user as words, before anything is upgraded.
func TestSessionsThatAreRefused(t *testing.T) {
	without := func(device string) string {
		return strings.Replace(aVMI("Running", "", ""), "devices: {}", "devices: {"+device+": false}", 1)
	}
	forward := map[string]string{"port": "22", "protocol": "tcp"}
	nic := func(ip string) string { return aVMI("Running", "", "interfaces: [{ipAddress: "+ip+"}]") }
	for _, c := range []struct {
		name    string
		handler routes.Handler
		object  string
		path    map[string]string
		query   string
		code    int32
		message string
	}{
		{"console of nothing", routes.Console, "", nil, "", 404, "not found"},
		{"console of a stopped VM", routes.Console, aVMI("Succeeded", "", ""), nil, "", 400, "VMI is not running"},
		{"console of a starting VM", routes.Console, aVMI("Scheduling", "", ""), nil, "", 400, "VMI is not running"},
		{"console of a failed VM", routes.Console, aVMI("Failed", "", ""), nil, "", 409, "VMI is in failed status"},
		{"no console", routes.Console, without("autoattachSerialConsole"), nil, "", 400, "No serial consoles are present."},
		{"no screen", routes.VNC, without("autoattachGraphicsDevice"), nil, "", 400, "No graphics devices are present."},
		{"screen of a stopped VM", routes.VNC, aVMI("Succeeded", "", ""), nil, "", 400, "VMI is not running"},
		{"odd question", routes.VNC, aVMI("Running", "", ""), nil, "preserveSession=perhaps", 400, "preserveSession"},
		{"forward to a paused VM", routes.PortForward, aVMI("Running", "", condition("Paused")+", interfaces: [{ipAddress: 10.0.0.1}]"), forward, "", 409, "VMI is paused"},
		{"forward to a VM without an interface", routes.VMPortForward, aVMI("Running", "", ""), forward, "", 400, "no network interfaces are present"},
		{"forward to port 0", routes.PortForward, nic("10.0.0.1"), map[string]string{"port": "0"}, "", 400, "port"},
		{"forward to port 65536", routes.PortForward, nic("10.0.0.1"), map[string]string{"port": "65536"}, "", 400, "port"},
		{"forward by carrier pigeon", routes.PortForward, nic("10.0.0.1"), map[string]string{"port": "1", "protocol": "sctp"}, "", 400, "protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var objects []string
			if c.object != "" {
				objects = append(objects, c.object)
			}
			h := setUp(t, nil, objects...)
			_, refused := connect(t, serveOver(t, h, c.handler, c.path), c.query)
			if refused == nil || refused.Code != c.code || !strings.Contains(refused.Message, c.message) {
				t.Errorf("%+v", refused)
			}
			if len(h.node.asked) > 0 {
				t.Errorf("the agent was asked %v", h.node.asked)
			}
		})
	}
	t.Run("the agent refuses", func(t *testing.T) {
		h := setUp(t, nil, aVMI("Running", "", ""))
		h.node.err = &apierrors.StatusError{ErrStatus: metav1.Status{Code: 503, Message: "in use"}}
		if _, refused := connect(t, serveOver(t, h, routes.VNC, nil), ""); refused == nil || refused.Code != 503 || refused.Message != "in use" {
			t.Errorf("%+v", refused)
		}
	})
	t.Run("no websocket", func(t *testing.T) {
		h := setUp(t, nil, aVMI("Running", "", ""))
		if a := h.do(t, routes.Console, nil, "", ""); a.code != 400 || !strings.Contains(a.message, "websocket") || len(h.node.asked) > 0 {
			t.Errorf("%+v", a)
		}
	})
}

// A guest that reports an address of the node's or of this server's must not lead users there.
func TestGuestAddress(t *testing.T) {
	for ip, ok := range map[string]bool{
		"10.244.0.7": true, "fd10::7": true, "192.168.1.1": true,
		"127.0.0.1": false, "::1": false, "169.254.169.254": false, "fe80::1": false, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false,
		"::ffff:127.0.0.1": false, "": false, "guest": false,
	} {
		vmi := &v1.VirtualMachineInstance{Status: v1.VirtualMachineInstanceStatus{Phase: v1.Running, Interfaces: []v1.VirtualMachineInstanceNetworkInterface{{IP: ip}}}}
		if _, err := guestAddress(vmi); (err == nil) != ok {
			t.Errorf("%q: %v", ip, err)
		}
	}
}

// ownAddress is one of this machine's addresses that is not a loopback one.
func ownAddress(t *testing.T) netip.Addr {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr()
		}
	}
	t.Fatal("this machine has no address to forward to")
	return netip.Addr{}
}

func TestPortForward(t *testing.T) {
	address := ownAddress(t)
	listener, err := net.Listen("tcp", net.JoinHostPort(address.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	h := setUp(t, nil, aVMI("Running", "", "interfaces: [{ipAddress: "+address.String()+"}]"))
	for _, path := range []map[string]string{{"port": port}, {"port": port, "protocol": "tcp"}} {
		conn, refused := connect(t, serveOver(t, h, routes.VMPortForward, path), "")
		if refused != nil {
			t.Fatalf("%+v", refused)
		}
		_ = conn.WriteMessage(websocket.BinaryMessage, []byte("hello"))
		if _, got, err := conn.ReadMessage(); err != nil || string(got) != "hello" {
			t.Errorf("%q %v", got, err)
		}
	}
	_ = listener.Close()
	if _, refused := connect(t, serveOver(t, h, routes.PortForward, map[string]string{"port": port}), ""); refused == nil || refused.Code != 500 {
		t.Errorf("nobody listens: %+v", refused)
	}
}
