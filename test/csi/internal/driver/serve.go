package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Serve answers on a socket until ctx ends, and tells the kubelet of it by another one in its directory of plugins. plugins may be empty.
func (d *Driver) Serve(ctx context.Context, socket, plugins string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return serve(ctx, socket, func(s *grpc.Server) {
			csi.RegisterIdentityServer(s, d)
			csi.RegisterControllerServer(s, d)
			csi.RegisterNodeServer(s, d)
		})
	})
	if plugins != "" {
		group.Go(func() error {
			return serve(ctx, filepath.Join(plugins, Name+"-reg.sock"), func(s *grpc.Server) {
				registration.RegisterRegistrationServer(s, &registrar{endpoint: socket})
			})
		})
	}
	return group.Wait()
}

func serve(ctx context.Context, socket string, register func(*grpc.Server)) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := grpc.NewServer()
	register(server)
	defer context.AfterFunc(ctx, server.GracefulStop)()
	return server.Serve(listener)
}

// registrar answers the kubelet, which finds its socket.
type registrar struct {
	registration.UnimplementedRegistrationServer
	endpoint string
}

// GetInfo tells the kubelet where the driver is.
func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: Name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus hears whether the kubelet took the driver.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !s.GetPluginRegistered() {
		fmt.Fprintln(os.Stderr, "the kubelet refuses the driver:", s.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
