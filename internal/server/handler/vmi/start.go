package vmi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/clusterconfig"
	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/network"
	"virtctl/internal/server/handler/beneath"
	"virtctl/internal/server/handler/devices"
)

// maxResolvConf bounds what is read of the pod's resolv.conf.
const maxResolvConf = 64 << 10

// ground is what a domain stands on: its network and its disks.
type ground struct {
	plan     network.Plan
	prepared wire.PrepareResult
	net      *network.Result
}

func (g *ground) close() {
	if g.net != nil {
		g.net.Close()
	}
}

// startDomain does everything from an empty pod to a running guest. It may be repeated.
func (s *session) startDomain(ctx context.Context) error {
	g, err := s.prepare(ctx, false)
	defer g.close()
	if err != nil {
		return err
	}
	input := s.input(g.plan, g.prepared)
	if err := s.hardware(&input); err != nil {
		return err
	}
	doc, err := domain.XML(s.vmi, input)
	if err != nil {
		return err
	}
	return s.launch(ctx, g, wire.StartRequest{
		XML: doc, Paused: s.vmi.Spec.StartStrategy != nil && *s.vmi.Spec.StartStrategy == v1.StartStrategyPaused,
	})
}

// prepare makes disks and network ready. What it returns is to be closed, even with an error.
func (s *session) prepare(ctx context.Context, incoming bool) (*ground, error) {
	g := &ground{}
	ns, err := s.view.Peer.Namespace()
	if err != nil {
		return g, err
	}
	defer ns.Close()
	if g.plan, err = s.planNetwork(ns); err != nil {
		return g, err
	}
	specs, err := domain.Disks(s.vmi, s.diskOptions(g.plan))
	if err != nil {
		return g, err
	}
	work, workCtx := errgroup.WithContext(ctx)
	work.Go(func() (err error) {
		g.prepared, err = s.view.Peer.Client.Prepare(workCtx, wire.PrepareRequest{
			Disks: specs, Kernel: domain.KernelFiles(s.vmi), CapabilitiesCache: s.r.Node.CapabilitiesCache(s.has(devices.KVM)),
			Incoming: incoming,
		})
		return err
	})
	work.Go(func() (err error) {
		if err := s.giveDevices(); err != nil {
			return err
		}
		g.net, err = network.Apply(ns, g.plan)
		return err
	})
	return g, work.Wait()
}

// launch starts the domain, or has the launcher wait for it to come.
func (s *session) launch(ctx context.Context, g *ground, request wire.StartRequest) error {
	request.GracePeriodSeconds, request.DHCP, request.Credentials = grace(s.vmi), g.net.DHCP, domain.Credentials(s.vmi)
	request.DisableConsoleLog = !s.r.Config.Get().LogsSerialConsole(&s.vmi.Spec.Domain.Devices)
	files := make([]*os.File, 0, len(g.net.Sockets))
	for _, socket := range g.net.Sockets {
		request.Sockets = append(request.Sockets, socket.Role)
		files = append(files, socket.File)
	}
	state, err := s.view.Peer.Client.Start(ctx, request, files...)
	if err != nil {
		return err
	}
	s.launcher.Learn(state)
	s.mem.plan, s.mem.domain, s.mem.refusedFor = &g.plan, nil, nil
	return nil
}

func (s *session) planNetwork(ns *network.Namespace) (network.Plan, error) {
	pod, err := network.Inspect(ns)
	if err != nil {
		return network.Plan{}, err
	}
	if pod.Resolver, err = s.resolver(); err != nil {
		return network.Plan{}, err
	}
	if pod.Attachments, err = network.Attachments(s.pod.Annotations[network.StatusAnnotation]); err != nil {
		return network.Plan{}, err
	}
	return network.MakePlan(s.vmi, pod)
}

func (s *session) resolver() (network.Resolver, error) {
	root, err := s.view.Peer.Root()
	if err != nil {
		return network.Resolver{}, err
	}
	defer root.Close()
	conf, err := beneath.ReadFile(root, "etc/resolv.conf", maxResolvConf)
	if errors.Is(err, os.ErrNotExist) {
		return network.Resolver{}, nil // a pod with dnsPolicy None and no dnsConfig
	}
	if err != nil {
		return network.Resolver{}, fmt.Errorf("read the pod's resolv.conf: %w", err)
	}
	return network.ParseResolver(strings.NewReader(string(conf))), nil
}

// giveDevices lets the launcher's user open the devices that the pod was given. The runtime keeps the node's owner and mode.
func (s *session) giveDevices() error {
	root, err := s.view.Peer.Root()
	if err != nil {
		return err
	}
	defer root.Close()
	for _, d := range devices.All() {
		if !s.has(d) {
			continue
		}
		if err := devices.Give(root, d, layout.UID); err != nil {
			return fmt.Errorf("give %s to the launcher: %w", d.Path, err)
		}
	}
	if err := s.giveHostDevices(root); err != nil {
		return err
	}
	if !beneathExists(root, devices.TUN.Path) && len(s.vmi.Spec.Domain.Devices.Interfaces) > 0 {
		return &network.InterfaceError{
			Interface: s.vmi.Spec.Domain.Devices.Interfaces[0].Name,
			Detail:    "the pod was not given devices.kubevirt.io/tun; delete the VMI so that its pod is made again",
		}
	}
	return nil
}

func beneathExists(root *os.File, path string) bool {
	f, err := beneath.Open(root, strings.TrimPrefix(path, "/"), unix.O_PATH)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

// has tells whether the pod was given a device.
func (s *session) has(d devices.Device) bool {
	for i := range s.pod.Spec.Containers {
		c := &s.pod.Spec.Containers[i]
		if q, ok := c.Resources.Limits[corev1.ResourceName(d.Resource)]; c.Name == layout.ComputeContainer && ok && !q.IsZero() {
			return true
		}
	}
	return false
}

// mounts tells whether the pod has a volume at a path.
func (s *session) mounts(path string) bool {
	for i := range s.pod.Spec.Containers {
		c := &s.pod.Spec.Containers[i]
		if c.Name != layout.ComputeContainer {
			continue
		}
		for _, m := range c.VolumeMounts {
			if m.MountPath == path {
				return true
			}
		}
	}
	return false
}

func (s *session) diskOptions(plan network.Plan) domain.DiskOptions {
	macs := make(map[string]string, len(plan.Interfaces))
	for _, i := range plan.Interfaces {
		macs[i.Name] = i.MAC
	}
	return domain.DiskOptions{
		BlockVolumes: s.blockVolumes(), AllowHostDisk: s.r.Config.Get().Gate(clusterconfig.GateHostDisk), MACs: macs,
	}
}

// blockVolumes reads from the pod which volumes are devices: that is what the launcher really has.
func (s *session) blockVolumes() map[string]bool {
	devicePaths := map[string]bool{}
	for i := range s.pod.Spec.Containers {
		for _, d := range s.pod.Spec.Containers[i].VolumeDevices {
			devicePaths[d.DevicePath] = true
		}
	}
	block := map[string]bool{}
	for _, v := range s.vmi.Spec.Volumes {
		if devicePaths[layout.BlockDevice(v.Name)] {
			block[v.Name] = true
		}
	}
	return block
}

func (s *session) input(plan network.Plan, prepared wire.PrepareResult) domain.Input {
	config := s.r.Config.Get()
	in := domain.Input{
		Disks: map[string]wire.DiskFacts{}, Interfaces: map[string]domain.Interface{},
		Host: domain.Host{
			KVM: s.has(devices.KVM), Arch: runtime.GOARCH, Firmware: domain.DebianFirmware(runtime.GOARCH),
			VhostNet: s.has(devices.VhostNet),
		},
		Cluster: domain.Cluster{
			SMBIOS: domain.SMBIOS{
				Manufacturer: config.SMBIOS.Manufacturer, Product: config.SMBIOS.Product, Version: config.SMBIOS.Version,
				SKU: config.SMBIOS.Sku, Family: config.SMBIOS.Family,
			},
			MachineType: config.Machines.For(runtime.GOARCH).Type, CPUModel: config.Compute.CPUModel,
			MemBalloonStatsPeriod:    &config.Launcher.BalloonStatsSeconds,
			DisableFreePageReporting: !config.Launcher.FreePageReporting,
			VGAForEFI:                config.Launcher.VGAForEFI,
		},
	}
	in.StateClaim = s.mounts(layout.StateDir)
	for _, d := range prepared.Disks {
		in.Disks[d.Name] = d
	}
	for _, i := range plan.Interfaces {
		in.Interfaces[i.Name] = domain.Interface{
			Tap: i.Tap, MAC: i.MAC, MTU: uint(i.MTU), Queues: uint(i.Queues), PodInterface: i.PodLink,
		}
	}
	return in
}
