package vmi

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/discovery"
	"virtctl/internal/server/handler/launchers"
)

const (
	nodeName    = "node01"
	vmiUID      = types.UID("0d3c5a9e-7a43-4b0f-9b6e-6f0d4d1c2b3a")
	podUID      = types.UID("8e9d0c3e-0000-4000-8000-123456789abc")
	playEnv     = "TEST_PLAY_LAUNCHER"
	patience    = 20 * time.Second
	domainEmpty = `<domain type="qemu"><name>default_web</name></domain>`
)

// world is a node with one launcher pod, an API server in memory, and a handler.
type world struct {
	t       *testing.T
	dir     string
	client  client.WithWatch
	writes  *writes
	changed chan types.NamespacedName
	set     *launchers.Set
	r       *Reconciler
	stop    context.CancelFunc
}

// writes counts what goes to the API server.
type writes struct {
	mu     sync.Mutex
	patch  int
	events []string
}

func newWorld(t *testing.T, vmi *v1.VirtualMachineInstance, s script) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, dir: reachableDir(t), writes: &writes{}}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(vmi, launcherPod(vmi)).
		WithInterceptorFuncs(w.writes.count()).Build()
	w.startLauncher(s)
	w.startHandler()
	return w
}

func (c *writes) count() interceptor.Funcs {
	return interceptor.Funcs{
		Patch: func(ctx context.Context, cl client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
			c.mu.Lock()
			c.patch++
			c.mu.Unlock()
			err := cl.Patch(ctx, obj, p, opts...)
			if err != nil && strings.Contains(err.Error(), "test failed") {
				// What the API server answers; the client in memory passes the bare error on.
				return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "patch", schema.GroupResource{}, "", err.Error(), 0, false)
			}
			return err
		},
		Create: func(ctx context.Context, cl client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if e, ok := obj.(*corev1.Event); ok {
				c.mu.Lock()
				c.events = append(c.events, e.Reason)
				c.mu.Unlock()
			}
			return cl.Create(ctx, obj, opts...)
		},
	}
}

func (c *writes) seen() (patches int, events []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.patch, append([]string{}, c.events...)
}

// reachableDir is one that every user may enter.
func reachableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "vmi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startLauncher plays the pod: its sockets directory, its process, its network.
func (w *world) startLauncher(s script) {
	w.t.Helper()
	dir := filepath.Join(w.dir, "pods", string(podUID), "volumes", "kubernetes.io~empty-dir", "sockets")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		w.t.Fatal(err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	cmd.Env = append(os.Environ(), playEnv+"="+string(raw))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: 107, Gid: 107}, Cloneflags: syscall.CLONE_NEWNET,
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatalf("start a launcher: %v (run the tests as root)", err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	w.network(cmd.Process.Pid)
	buf := make([]byte, 100)
	if n, err := out.Read(buf); err != nil {
		w.t.Fatalf("launcher: %q, %v", buf[:n], err)
	}
}

// network gives the pod what a CNI plugin gives it: eth0 with an address.
func (w *world) network(pid int) {
	w.t.Helper()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		w.t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlinkIn(ns)
	if err != nil {
		w.t.Fatal(err)
	}
	defer h.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"eth0", "peer"} {
		l, err := h.LinkByName(name)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := h.LinkSetUp(l); err != nil {
			w.t.Fatal(err)
		}
		if name == "eth0" {
			if err := h.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 244, 0, 5), Mask: net.CIDRMask(24, 32)}}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// startHandler starts a handler with nothing remembered; again after stopHandler, as after kill -9.
func (w *world) startHandler() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop = cancel
	w.changed = make(chan types.NamespacedName, 1000)
	changed := w.changed
	connector := discovery.Connector{KubeletDir: w.dir, Member: func(*os.File, types.UID) error { return nil }}
	w.set = launchers.NewSet(ctx, connector.Connect, logr.Discard(), func(pod types.NamespacedName) { changed <- pod })
	finder, err := discovery.NewFinder(w.dir, logr.Discard(), w.set.Found)
	if err != nil {
		w.t.Fatal(err)
	}
	w.set.UseFinder(finder)
	done := make(chan struct{})
	go func() { defer close(done); _ = finder.Start(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
	w.r = &Reconciler{
		NodeName: nodeName, Cache: w.client, Live: w.client, Writer: w.client, Launchers: w.set,
		Config: clusterconfig.Fixed(nil), Node: fakeNode{}, Now: time.Now,
		Background: w.t.Context(), Changed: func(pod types.NamespacedName) { changed <- pod },
	}
	w.reconcile()
}

type fakeNode struct{}

func (fakeNode) HostModel() bool                          { return true }
func (fakeNode) CapabilitiesCache(bool) map[string][]byte { return nil }

func (w *world) reconcile() ctrl.Result {
	w.t.Helper()
	result, err := w.r.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "default", Name: "virt-launcher-web-x"}})
	if err != nil {
		w.t.Logf("reconcile: %v", err)
	}
	return result
}

// until reconciles whenever the launcher says something, until the object is as wanted.
func (w *world) until(what string, ok func(*v1.VirtualMachineInstance) bool) *v1.VirtualMachineInstance {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		vmi := w.vmi()
		if ok(vmi) {
			return vmi
		}
		select {
		case <-w.changed:
			w.reconcile()
		case <-deadline:
			raw, _ := json.MarshalIndent(vmi.Status, "", " ")
			w.t.Fatalf("%s: waited too long; status %s", what, raw)
		}
	}
}

func (w *world) vmi() *v1.VirtualMachineInstance {
	w.t.Helper()
	vmi := &v1.VirtualMachineInstance{}
	if err := w.client.Get(w.t.Context(), types.NamespacedName{Namespace: "default", Name: "web"}, vmi); err != nil {
		w.t.Fatal(err)
	}
	return vmi
}

func (w *world) launcher() *wire.Client {
	w.t.Helper()
	l, ok := w.set.Running(types.NamespacedName{Namespace: "default", Name: "web"})
	if !ok {
		w.t.Fatal("no launcher runs")
	}
	return l.View().Peer.Client
}

func launcherPod(vmi *v1.VirtualMachineInstance) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "virt-launcher-web-x", UID: podUID, Labels: map[string]string{v1.AppLabel: "virt-launcher"},
			Annotations: map[string]string{v1.MemoryOverheadAnnotationBytes: "209715200"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1.GroupVersion.String(), Kind: "VirtualMachineInstance", Name: vmi.Name, UID: vmi.UID, Controller: &yes,
			}},
		},
		Spec:   corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{{Name: "compute", Image: "launcher:test"}}},
		Status: corev1.PodStatus{QOSClass: corev1.PodQOSBurstable},
	}
}

func (w *world) ref() launchers.Ref {
	pod := launcherPod(newVMI())
	ref, _ := w.r.refOf(pod)
	return ref
}

func (w *world) session(vmi *v1.VirtualMachineInstance) *session {
	ref := w.ref()
	l := w.set.Ensure(ref)
	return &session{r: w.r, ref: ref, pod: launcherPod(vmi), vmi: vmi, launcher: l, view: l.View(), mem: w.r.memory.of(ref)}
}
