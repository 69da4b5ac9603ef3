package devices

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// shelf is what Find finds.
type shelf struct {
	mu     sync.Mutex
	offers []Offer
	again  chan struct{}
}

func (s *shelf) find() ([]Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offers, nil
}

func (s *shelf) set(offers ...Offer) {
	s.mu.Lock()
	s.offers = offers
	s.mu.Unlock()
	s.again <- struct{}{}
}

func plugged(t *testing.T, dir string, r *v1beta1.RegisterRequest) (v1beta1.DevicePluginClient, v1beta1.DevicePlugin_ListAndWatchClient) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, r.Endpoint), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	client := v1beta1.NewDevicePluginClient(conn)
	stream, err := client.ListAndWatch(ctx, &v1beta1.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	return client, stream
}

func listed(t *testing.T, stream v1beta1.DevicePlugin_ListAndWatchClient) []string {
	t.Helper()
	list, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, d := range list.Devices {
		ids = append(ids, d.ID)
	}
	return ids
}

// A card that the administrator permits must reach one pod, which is told which it is; one that is taken away must not.
func TestPermittedDevicesComeAndGo(t *testing.T) {
	dir := t.TempDir()
	card := func(id string, numa int) Unit {
		return Unit{ID: id, Values: []string{id}, Nodes: []string{"/dev/vfio/vfio", "/dev/vfio/" + id}, NUMA: numa}
	}
	s := &shelf{again: make(chan struct{}, 1)}
	s.set(Offer{Resource: "example.com/card", Variable: "PCI_RESOURCE_EXAMPLE_COM_CARD", Units: []Unit{card("1", 1), card("2", -1)}})
	k := &kubelet{seen: make(chan *v1beta1.RegisterRequest, 10)}
	first := k.start(t, dir)
	p := &Permitted{Dir: dir, Find: s.find, Again: s.again, Nodes: []string{filepath.Join(dir, "absent")}, Log: logr.Discard()}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Start(ctx) }()

	r := k.expect(t)
	if r.ResourceName != "example.com/card" {
		t.Fatalf("registered %v", r)
	}
	client, stream := plugged(t, dir, r)
	if ids := listed(t, stream); !slices.Equal(ids, []string{"1", "2"}) {
		t.Errorf("offered %v", ids)
	}
	ask := func(ids ...string) (*v1beta1.AllocateResponse, error) {
		return client.Allocate(t.Context(), &v1beta1.AllocateRequest{ContainerRequests: []*v1beta1.ContainerAllocateRequest{{DevicesIds: ids}}})
	}
	got, err := ask("2", "1")
	if err != nil {
		t.Fatal(err)
	}
	one := got.ContainerResponses[0]
	if one.Envs["PCI_RESOURCE_EXAMPLE_COM_CARD"] != "2,1" || len(one.Devices) != 3 || one.Devices[0].HostPath != "/dev/vfio/vfio" {
		t.Errorf("given %+v", one)
	}

	s.set(Offer{Resource: "example.com/card", Variable: "PCI_RESOURCE_EXAMPLE_COM_CARD", Units: []Unit{card("2", -1)}})
	if ids := listed(t, stream); !slices.Equal(ids, []string{"2"}) {
		t.Errorf("after one is gone %v are offered", ids)
	}
	if _, err := ask("1"); err == nil {
		t.Error("a card that is gone was given")
	}
	// A kubelet that starts anew is told anew.
	first.Stop()
	k.start(t, dir)
	if r := k.expect(t); r.ResourceName != "example.com/card" {
		t.Errorf("after the kubelet's restart: %v", r)
	}
	// What is not permitted any more is not offered any more.
	_, stream = plugged(t, dir, r)
	listed(t, stream)
	s.set()
	if _, err := stream.Recv(); err == nil {
		t.Error("what is not permitted is still offered")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
