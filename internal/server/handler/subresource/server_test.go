package subresource

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/discovery"
	"virtctl/internal/server/handler/launchers"
	"virtctl/internal/server/handover"
	"virtctl/internal/server/serving"
)

// vm is a launcher in this process; its console echoes.
type vm struct {
	calls    chan string
	agent    error
	sessions *serving.Tracker
	parked   *sync.Map
}

func (v *vm) handler() wire.Handler {
	done := func(name string) wire.HandlerFunc {
		return wire.Getter(func(context.Context) (wire.State, error) {
			v.calls <- name
			return wire.State{State: wire.StateRunning}, nil
		})
	}
	echo := wire.File(func(context.Context, struct{}) (*os.File, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		go func() {
			guest := os.NewFile(uintptr(fds[0]), "guest")
			_, _ = io.Copy(guest, guest)
			_ = guest.Close()
		}()
		return os.NewFile(uintptr(fds[1]), "stream"), nil
	})
	return wire.Handler{
		wire.MethodWatch: func(ctx context.Context, call *wire.Call) error {
			if err := call.Reply(wire.Event{State: wire.State{State: wire.StateRunning, Since: time.Now()}}); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		},
		wire.MethodConsole: echo,
		wire.MethodVNC:     echo,
		wire.MethodUSB:     echo,
		wire.MethodPark: func(_ context.Context, call *wire.Call) error {
			var r wire.ParkRequest
			if err := call.Decode(&r); err != nil {
				return err
			}
			v.parked.Store(r.Key, call.TakeFiles()[0])
			return call.Reply(nil)
		},
		wire.MethodUnpark: wire.File(func(_ context.Context, r wire.ParkRequest) (*os.File, error) {
			f, ok := v.parked.LoadAndDelete(r.Key)
			if !ok {
				return nil, &wire.Error{Code: wire.CodeNotFound, Message: "the stream is not kept here any more"}
			}
			return f.(*os.File), nil
		}),
		wire.MethodSuspend: done("suspend"),
		wire.MethodResume:  done("resume"),
		wire.MethodReset: wire.Getter(func(context.Context) (wire.State, error) {
			return wire.State{}, &wire.Error{Code: wire.CodeConflict, Message: "the guest is being migrated"}
		}),
		wire.MethodReboot: wire.Action(func(context.Context, struct{}) error { v.calls <- "reboot"; return nil }),
		wire.MethodFreeze: wire.Action(func(_ context.Context, r wire.FreezeRequest) error {
			v.calls <- "freeze " + time.Duration(r.TimeoutSeconds*int64(time.Second)).String()
			return nil
		}),
		wire.MethodThaw: wire.Action(func(context.Context, struct{}) error { v.calls <- "thaw"; return nil }),
		wire.MethodScreenshot: wire.Getter(func(context.Context) (wire.Blob, error) {
			return wire.Blob{MediaType: "image/png", Data: []byte("\x89PNG")}, nil
		}),
		wire.MethodGuestInfo: wire.Getter(func(context.Context) (wire.GuestInfo, error) {
			return wire.GuestInfo{
				Hostname: "web", OS: wire.GuestOS{ID: "debian", PrettyName: "Debian GNU/Linux 13"},
				Users: []wire.GuestUser{{Name: "root", LoginTime: 12.5}},
				Disks: []wire.GuestFS{{Disk: "vda1", MountPoint: "/", Type: "ext4", UsedBytes: 1, TotalBytes: 2}},
			}, v.agent
		}),
	}
}

// serve starts the server with one running virtual machine, default/web.
func serve(t *testing.T, v *vm, clientName string) (base string, client *http.Client, config *tls.Config) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = wire.Serve(t.Context(), listener, v.handler()) }()
	set := runningSet(t, path)
	if v.sessions == nil {
		v.sessions = serving.NewTracker()
	}
	ca := newCA(t)
	server := &Server{Launchers: set, Sessions: v.sessions, Log: logr.Discard()}
	ts := httptest.NewUnstartedServer(server.Handler())
	ts.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "server")}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	ts.StartTLS()
	t.Cleanup(ts.Close)
	config = &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(t, clientName)}}
	return ts.URL + "/v1/namespaces/default/virtualmachineinstances/web/",
		&http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: 10 * time.Second}, config
}

func runningSet(t *testing.T, socket string) *launchers.Set {
	t.Helper()
	changed := make(chan struct{}, 100)
	set := launchers.NewSet(t.Context(), func(context.Context, types.UID) (*discovery.Peer, error) {
		return &discovery.Peer{Client: wire.Dial(socket)}, nil
	}, logr.Discard(), func(types.NamespacedName) { changed <- struct{}{} })
	set.UseFinder(nobody{})
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	set.Ensure(launchers.Ref{Pod: types.NamespacedName{Namespace: "default", Name: "pod"}, PodUID: "u", VMI: name, VMIUID: "v"})
	set.Found("u")
	for {
		select {
		case <-changed:
			if _, ok := set.Running(name); ok {
				return set
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the launcher was not found")
		}
	}
}

type nobody struct{}

func (nobody) Want(types.UID)   {}
func (nobody) Forget(types.UID) {}

func do(t *testing.T, client *http.Client, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// Every verb must reach the launcher as the right call; errors must be what virt-api can pass on.
func TestCalls(t *testing.T) {
	v := &vm{calls: make(chan string, 1)}
	base, client, _ := serve(t, v, apiClient)
	for _, c := range []struct{ path, body, want string }{
		{"pause", "{}", "suspend"},
		{"unpause", "", "resume"},
		{"softreboot", "", "reboot"},
		{"freeze", `{"unfreezeTimeout":"5m"}`, "freeze 5m0s"},
		{"freeze", "", "freeze 0s"},
		{"unfreeze", "", "thaw"},
	} {
		code, answer := do(t, client, http.MethodPut, base+c.path, c.body)
		if code != http.StatusAccepted {
			t.Errorf("%s: %d %s", c.path, code, answer)
			continue
		}
		if got := <-v.calls; got != c.want {
			t.Errorf("%s: the launcher was asked to %s", c.path, got)
		}
	}
	for _, c := range []struct {
		method, url, body string
		code              int
	}{
		{http.MethodPut, base + "reset", "", http.StatusConflict},
		{http.MethodPut, base + "freeze", "{", http.StatusBadRequest},
		{http.MethodPut, strings.Replace(base, "web", "other", 1) + "pause", "", http.StatusNotFound},
		{http.MethodGet, base + "pause", "", http.StatusNotFound},
		{http.MethodGet, base + "console", "", http.StatusBadRequest}, // no websocket
	} {
		code, answer := do(t, client, c.method, c.url, c.body)
		var status metav1.Status
		if err := json.Unmarshal([]byte(answer), &status); err != nil || code != c.code || int(status.Code) != c.code || status.Message == "" {
			t.Errorf("%s %s: %d %s, want %d and a Status", c.method, c.url, code, answer, c.code)
		}
	}
}

func TestGuestAgent(t *testing.T) {
	v := &vm{}
	base, client, _ := serve(t, v, apiClient)
	var info v1.VirtualMachineInstanceGuestAgentInfo
	_, answer := do(t, client, http.MethodGet, base+"guestosinfo", "")
	if err := json.Unmarshal([]byte(answer), &info); err != nil || info.OS.ID != "debian" || len(info.UserList) != 1 || len(info.FSInfo.Filesystems) != 1 {
		t.Errorf("guestosinfo: %s", answer)
	}
	var users v1.VirtualMachineInstanceGuestOSUserList
	_, answer = do(t, client, http.MethodGet, base+"userlist", "")
	if err := json.Unmarshal([]byte(answer), &users); err != nil || len(users.Items) != 1 || users.Kind != "VirtualMachineInstanceGuestOSUserList" {
		t.Errorf("userlist: %s", answer)
	}
	var fs v1.VirtualMachineInstanceFileSystemList
	_, answer = do(t, client, http.MethodGet, base+"filesystemlist", "")
	if err := json.Unmarshal([]byte(answer), &fs); err != nil || len(fs.Items) != 1 || fs.Items[0].TotalBytes != 2 {
		t.Errorf("filesystemlist: %s", answer)
	}
	if code, answer := do(t, client, http.MethodGet, base+"vnc/screenshot", ""); code != 200 || answer != "\x89PNG" {
		t.Errorf("screenshot: %d %q", code, answer)
	}
}

// Another component's certificate must not open a console (CVE-2025-64434).
func TestOnlyVirtAPIMayCall(t *testing.T) {
	base, client, _ := serve(t, &vm{}, "kubevirt.io:system:client:migration")
	for _, path := range []string{"console", "vnc/screenshot", "guestosinfo"} {
		if code, answer := do(t, client, http.MethodGet, base+path, ""); code != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
}

func dial(t *testing.T, base, path string, config *tls.Config) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: config, Subprotocols: []string{plainProtocol}, HandshakeTimeout: 10 * time.Second}
	ws, resp, err := d.DialContext(t.Context(), "wss"+strings.TrimPrefix(base, "https")+path, nil)
	if err == nil {
		t.Cleanup(func() { _ = ws.Close() })
	}
	return ws, resp, err
}

func echoed(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	var got []byte
	for len(got) < len(text) {
		kind, data, err := ws.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage {
			t.Fatalf("kind %d, %v", kind, err)
		}
		got = append(got, data...)
	}
	if string(got) != text {
		t.Fatalf("got %d bytes that differ from the %d sent", len(got), len(text))
	}
}

// The console must carry bytes both ways unchanged, and a second user must take it over.
func TestConsole(t *testing.T) {
	base, _, config := serve(t, &vm{}, apiClient)
	first, resp, err := dial(t, base, "console", config)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("Sec-Websocket-Protocol") != plainProtocol {
		t.Errorf("subprotocol %q", resp.Header.Get("Sec-Websocket-Protocol"))
	}
	echoed(t, first, "uname\r\n")
	echoed(t, first, strings.Repeat("0123456789abcdef", 16<<10))
	second, _, err := dial(t, base, "console", config)
	if err != nil {
		t.Fatal(err)
	}
	echoed(t, second, "mine now")
	_, _, err = first.ReadMessage()
	if !websocket.IsCloseError(err, websocket.ClosePolicyViolation) || !strings.Contains(err.Error(), "taken over") || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("the first session ended as if it had been asked to: %v", err)
	}
	echoed(t, second, "still mine")
}

// end has the sessions of a server end.
func end(t *testing.T, sessions *serving.Tracker) {
	t.Helper()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	go sessions.Drain(over)
}

// A client that cannot take part in a handover is told why its session ends.
func TestSessionsOfAServerThatEnds(t *testing.T) {
	v := &vm{sessions: serving.NewTracker()}
	base, _, config := serve(t, v, apiClient)
	session, _, err := dial(t, base, "vnc", config)
	if err != nil {
		t.Fatal(err)
	}
	echoed(t, session, "before")
	end(t, v.sessions)
	if _, _, err = session.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("the session: %v", err)
	}
}

// The next server goes on where the one before has stopped: what the guest said and what it was told meanwhile is all there, once.
func TestSessionsAreHandedOver(t *testing.T) {
	v := &vm{sessions: serving.NewTracker(), parked: &sync.Map{}}
	base, _, config := serve(t, v, apiClient)
	old, _, err := dial(t, base, "console?handover=true", config)
	if err != nil {
		t.Fatal(err)
	}
	echoed(t, old, "before")
	old.SetCloseHandler(func(int, string) error { return nil })
	end(t, v.sessions)
	_, _, err = old.ReadMessage()
	key, ok := handover.Key(err)
	if !ok {
		t.Fatalf("the session: %v", err)
	}
	for _, late := range []string{"typed ", "meanwhile"} {
		if err := old.WriteMessage(websocket.BinaryMessage, []byte(late)); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.WriteControl(websocket.CloseMessage, handover.Answer(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, old.NetConn()); err != nil {
		t.Errorf("the connection: %v", err)
	}

	next := *v
	next.sessions = serving.NewTracker()
	base, _, config = serve(t, &next, apiClient)
	if _, resp, err := dial(t, base, "console?resume=guessed", config); err == nil || resp == nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("a key that nobody has given: %v, %v", resp, err)
	}
	session, _, err := dial(t, base, "console?handover=true&resume="+key, config)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for len(got) < len("typed meanwhile") {
		_, message, err := session.ReadMessage()
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got = append(got, message...)
	}
	if string(got) != "typed meanwhile" {
		t.Errorf("got %q", got)
	}
	echoed(t, session, "after")
}

func TestVNCPreservesSession(t *testing.T) {
	base, _, config := serve(t, &vm{}, apiClient)
	first, _, err := dial(t, base, "vnc", config)
	if err != nil {
		t.Fatal(err)
	}
	echoed(t, first, "RFB 003.008\n")
	if _, resp, err := dial(t, base, "vnc?preserveSession=true", config); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a second session: %v, %v", resp, err)
	}
	echoed(t, first, "still here")
	if _, _, err := dial(t, base, "vnc", config); err != nil {
		t.Errorf("taking over: %v", err)
	}
}

// Four devices of clients fit into a guest at once; the fifth must be told so, and drives nobody out.
func TestUSBDevicesShareTheGuest(t *testing.T) {
	base, client, config := serve(t, &vm{}, apiClient)
	var devices []*websocket.Conn
	for range 4 {
		ws, _, err := dial(t, base, "usbredir", config)
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, ws)
	}
	_, resp, err := dial(t, base, "usbredir", config)
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a fifth device: %v, %v", resp, err)
	}
	for i, ws := range devices {
		echoed(t, ws, "device "+string(rune('a'+i)))
	}
	if code, answer := do(t, client, http.MethodGet, base+"usbredir", ""); code != http.StatusBadRequest {
		t.Errorf("without a websocket: %d %s", code, answer)
	}
}
