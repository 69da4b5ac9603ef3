package devices

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// registerTimeout bounds one registration with the kubelet.
const registerTimeout = 10 * time.Second

// Manager offers devices to the kubelet, again whenever the kubelet starts anew.
type Manager struct {
	// Dir is the kubelet's directory of device plugins.
	Dir     string
	Devices []Device
	// Count is how many pods can have each device at once.
	Count int
	Log   logr.Logger
	// Registered is called after all devices were registered; it must return quickly.
	Registered func()
}

// Start serves until ctx ends. It belongs to every replica of a manager.
func (m *Manager) Start(ctx context.Context) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("start watching files: %w; raise fs.inotify.max_user_instances", err)
	}
	defer notify.Close()
	if err := notify.Add(m.Dir); err != nil {
		return fmt.Errorf("watch the kubelet's device plugin directory %s: %w; check --kubelet-dir", m.Dir, err)
	}
	for ctx.Err() == nil {
		if err := m.session(ctx, notify); err != nil {
			return err
		}
	}
	return nil
}

// session serves and registers the devices until the kubelet's socket is made anew.
func (m *Manager) session(ctx context.Context, notify *fsnotify.Watcher) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, d := range m.Devices {
		stop, err := m.serve(ctx, d)
		if err != nil {
			return err
		}
		defer stop()
	}
	kubelet := filepath.Join(m.Dir, filepath.Base(v1beta1.KubeletSocket))
	registered, err := os.Stat(kubelet)
	if err == nil {
		m.registerAll(ctx, kubelet)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-notify.Events:
			if !ok {
				return errors.New("watching files ended")
			}
			// The kubelet removes all plugins' sockets when it starts, so they are served anew as well.
			if event.Name == kubelet && event.Has(fsnotify.Create) && !sameFile(registered, kubelet) {
				m.Log.Info("the kubelet has started anew; offering devices again")
				return nil
			}
		case err, ok := <-notify.Errors:
			if !ok {
				return errors.New("watching files ended")
			}
			m.Log.Error(err, "watching the kubelet")
			return nil
		}
	}
}

// sameFile tells that the socket is still the one we registered with: its event was only late.
func sameFile(registered os.FileInfo, path string) bool {
	now, err := os.Stat(path)
	// An inode's number is soon used again, its time is not.
	return err == nil && registered != nil && os.SameFile(registered, now) && registered.ModTime().Equal(now.ModTime())
}

// registerAll registers all devices. The kubelet's socket appears a moment before it answers, and dialling waits for that.
func (m *Manager) registerAll(ctx context.Context, kubelet string) {
	for _, d := range m.Devices {
		if err := register(ctx, kubelet, socketName(d), d.Resource); err != nil {
			m.Log.Error(err, "cannot offer a device to the kubelet", "device", d.Resource)
			return
		}
	}
	if m.Registered != nil {
		m.Registered()
	}
}

func socketName(d Device) string { return "kubevirt-" + d.Name + ".sock" }

// serve offers one device on its socket; stop ends that.
func (m *Manager) serve(ctx context.Context, d Device) (stop func(), err error) {
	return serveSocket(ctx, filepath.Join(m.Dir, socketName(d)), &plugin{device: d, count: m.Count, ended: ctx}, m.Log)
}

// serveSocket answers the kubelet on a socket; stop ends that.
func serveSocket(ctx context.Context, path string, answers v1beta1.DevicePluginServer, log logr.Logger) (stop func(), err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket %s: %w", path, err)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("offer devices: %w", err)
	}
	server := grpc.NewServer()
	v1beta1.RegisterDevicePluginServer(server, answers)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); err != nil {
			log.Error(err, "offering devices ended", "socket", path)
		}
	}()
	return func() {
		server.Stop()
		<-done
	}, nil
}

// register tells the kubelet where a resource is offered.
func register(ctx context.Context, kubelet, endpoint, resource string) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to the kubelet: %w", err)
	}
	defer conn.Close()
	_, err = v1beta1.NewRegistrationClient(conn).Register(ctx, &v1beta1.RegisterRequest{
		Version: v1beta1.Version, Endpoint: endpoint, ResourceName: resource,
	}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("register %s: %w", resource, err)
	}
	return nil
}

// plugin answers the kubelet for one device.
type plugin struct {
	v1beta1.UnimplementedDevicePluginServer
	device Device
	count  int
	ended  context.Context
}

func (p *plugin) GetDevicePluginOptions(context.Context, *v1beta1.Empty) (*v1beta1.DevicePluginOptions, error) {
	return &v1beta1.DevicePluginOptions{}, nil
}

// ListAndWatch tells the kubelet once: the device is there as long as we are.
func (p *plugin) ListAndWatch(_ *v1beta1.Empty, stream v1beta1.DevicePlugin_ListAndWatchServer) error {
	list := make([]*v1beta1.Device, 0, p.count)
	for i := range p.count {
		list = append(list, &v1beta1.Device{ID: p.device.Name + strconv.Itoa(i), Health: v1beta1.Healthy})
	}
	if err := stream.Send(&v1beta1.ListAndWatchResponse{Devices: list}); err != nil {
		return fmt.Errorf("list %s: %w", p.device.Resource, err)
	}
	select {
	case <-p.ended.Done():
	case <-stream.Context().Done():
	}
	return nil
}

func (p *plugin) Allocate(_ context.Context, r *v1beta1.AllocateRequest) (*v1beta1.AllocateResponse, error) {
	response := &v1beta1.AllocateResponse{}
	for range r.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &v1beta1.ContainerAllocateResponse{
			Devices: []*v1beta1.DeviceSpec{{HostPath: p.device.Path, ContainerPath: p.device.Path, Permissions: "rw"}},
		})
	}
	return response, nil
}
