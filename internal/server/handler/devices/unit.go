package devices

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// unitPlugin answers the kubelet for one resource of devices that are given out one by one.
type unitPlugin struct {
	v1beta1.UnimplementedDevicePluginServer

	mu      sync.Mutex
	offer   Offer
	changed chan struct{} // closed when offer changes
	ended   chan struct{}
	once    sync.Once
}

func newUnitPlugin(o Offer) *unitPlugin {
	return &unitPlugin{offer: o, changed: make(chan struct{}), ended: make(chan struct{})}
}

// become replaces what is offered; the kubelet is told of a change only.
func (p *unitPlugin) become(o Offer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reflect.DeepEqual(p.offer, o) {
		return
	}
	p.offer = o
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *unitPlugin) end() { p.once.Do(func() { close(p.ended) }) }

func (p *unitPlugin) now() (Offer, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offer, p.changed
}

func (p *unitPlugin) GetDevicePluginOptions(context.Context, *v1beta1.Empty) (*v1beta1.DevicePluginOptions, error) {
	return &v1beta1.DevicePluginOptions{}, nil
}

func (p *unitPlugin) ListAndWatch(_ *v1beta1.Empty, stream v1beta1.DevicePlugin_ListAndWatchServer) error {
	for {
		offer, changed := p.now()
		list := make([]*v1beta1.Device, 0, len(offer.Units))
		for _, u := range offer.Units {
			device := &v1beta1.Device{ID: u.ID, Health: v1beta1.Healthy}
			if u.NUMA >= 0 {
				device.Topology = &v1beta1.TopologyInfo{Nodes: []*v1beta1.NUMANode{{ID: int64(u.NUMA)}}}
			}
			list = append(list, device)
		}
		if err := stream.Send(&v1beta1.ListAndWatchResponse{Devices: list}); err != nil {
			return fmt.Errorf("list %s: %w", offer.Resource, err)
		}
		select {
		case <-changed:
		case <-p.ended:
			return nil
		case <-stream.Context().Done():
			return nil
		}
	}
}

// Allocate gives a container its devices, and tells it which they are.
func (p *unitPlugin) Allocate(_ context.Context, r *v1beta1.AllocateRequest) (*v1beta1.AllocateResponse, error) {
	offer, _ := p.now()
	units := map[string]Unit{}
	for _, u := range offer.Units {
		units[u.ID] = u
	}
	response := &v1beta1.AllocateResponse{}
	for _, container := range r.ContainerRequests {
		one := &v1beta1.ContainerAllocateResponse{}
		var values []string
		seen := map[string]bool{}
		for _, id := range container.DevicesIds {
			u, ok := units[id]
			if !ok {
				return nil, status.Errorf(codes.NotFound, "%s %s is not on this node any more", offer.Resource, id)
			}
			values = append(values, u.Values...)
			for _, node := range u.Nodes {
				if !seen[node] {
					seen[node] = true
					one.Devices = append(one.Devices, &v1beta1.DeviceSpec{HostPath: node, ContainerPath: node, Permissions: "mrw"})
				}
			}
		}
		one.Envs = map[string]string{offer.Variable: strings.Join(values, ",")}
		response.ContainerResponses = append(response.ContainerResponses, one)
	}
	return response, nil
}
