package devices

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"virtctl/internal/server/handler/beneath"
)

// kubelet is the registration half of a kubelet.
type kubelet struct {
	v1beta1.UnimplementedRegistrationServer
	seen chan *v1beta1.RegisterRequest
}

func (k *kubelet) Register(_ context.Context, r *v1beta1.RegisterRequest) (*v1beta1.Empty, error) {
	k.seen <- r
	return &v1beta1.Empty{}, nil
}

func (k *kubelet) start(t *testing.T, dir string) *grpc.Server {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, "kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	v1beta1.RegisterRegistrationServer(server, k)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return server
}

func (k *kubelet) expect(t *testing.T) *v1beta1.RegisterRequest {
	t.Helper()
	select {
	case r := <-k.seen:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no registration")
		return nil
	}
}

// Without this no launcher pod can be scheduled: neither at first nor after the kubelet has started anew.
func TestKubeletGetsDevices(t *testing.T) {
	dir := t.TempDir()
	k := &kubelet{seen: make(chan *v1beta1.RegisterRequest, 10)}
	registered := make(chan struct{}, 10)
	m := &Manager{Dir: dir, Devices: []Device{TUN}, Count: 3, Log: logr.Discard(), Registered: func() { registered <- struct{}{} }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Start(ctx) }()
	first := k.start(t, dir)
	for round := range 2 {
		r := k.expect(t)
		if r.ResourceName != "devices.kubevirt.io/tun" || r.Version != "v1beta1" {
			t.Fatalf("round %d: registered %v", round, r)
		}
		<-registered
		use(t, filepath.Join(dir, r.Endpoint))
		if round == 0 {
			first.Stop()
			k.start(t, dir)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func use(t *testing.T, endpoint string) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	plugin := v1beta1.NewDevicePluginClient(conn)
	stream, err := plugin.ListAndWatch(ctx, &v1beta1.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := stream.Recv()
	if err != nil || len(list.Devices) != 3 || list.Devices[0].Health != v1beta1.Healthy {
		t.Fatalf("devices %v, %v", list, err)
	}
	got, err := plugin.Allocate(ctx, &v1beta1.AllocateRequest{ContainerRequests: []*v1beta1.ContainerAllocateRequest{{DevicesIds: []string{"tun1"}}}})
	if err != nil || len(got.ContainerResponses) != 1 || got.ContainerResponses[0].Devices[0].HostPath != "/dev/net/tun" ||
		got.ContainerResponses[0].Devices[0].Permissions != "rw" {
		t.Fatalf("allocated %v, %v", got, err)
	}
}

// A launcher must be able to open what it was given, and nothing else in its container may be handed to it.
func TestGive(t *testing.T) {
	root := t.TempDir()
	dev := filepath.Join(root, "dev", "net")
	if err := os.MkdirAll(dev, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := beneath.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	tun := filepath.Join(dev, "tun")
	mknod := func(path string, minor uint32) {
		t.Helper()
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(10, minor))); err != nil {
			t.Fatalf("make a device node: %v (run the tests as root)", err)
		}
	}
	mknod(tun, 200)
	if err := Give(dir, TUN, 107); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(tun, &st); err != nil || st.Uid != 107 || st.Gid != 107 {
		t.Errorf("owner %d:%d, %v", st.Uid, st.Gid, err)
	}
	mknod(filepath.Join(root, "dev", "kvm"), 237) // some other device under that name
	if err := Give(dir, KVM, 107); err == nil {
		t.Error("another device was given away under the name of kvm")
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(root, "dev", "vhost-net")); err != nil {
		t.Fatal(err)
	}
	if err := Give(dir, VhostNet, 107); err == nil {
		t.Error("a symbolic link was followed")
	}
	if err := unix.Stat(secret, &st); err != nil || st.Uid == 107 {
		t.Errorf("the link's target now belongs to %d, %v", st.Uid, err)
	}
}
