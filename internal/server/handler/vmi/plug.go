package vmi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	v1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
	"virtctl/internal/server/handler/discovery"
	"virtctl/internal/server/handler/hotplug"
	"virtctl/internal/server/handler/status"
)

// releaseTime is how long one reconciliation waits for a guest to let go of a disk. A guest that takes longer is asked again.
const releaseTime = 10 * time.Second

// Reasons of a plugged volume's status (contract).
const (
	reasonMounted   = "VolumeMountedToPod"
	reasonReady     = "VolumeReady"
	reasonUnmounted = "VolumeUnMountedFromPod"

	reasonDumping    = "MemoryDumpInProgress"
	reasonDumped     = "VolumeReady"
	reasonDumpFailed = "MemoryDumpFailed"
)

// plug brings the disks of a running domain to what the object says: volumes that have come to the node are plugged in, those
// that the object no longer names are taken away. The failure of one is told in its status and tried again; it holds up no other.
func (s *session) plug(ctx context.Context) (map[string]status.Plug, error) {
	plugs := map[string]status.Plug{}
	var failures []error
	note := func(volume string, p status.Plug, err error) {
		if err != nil && !gone(err) {
			failures = append(failures, fmt.Errorf("volume %s: %w", volume, err))
			p.Message = status.Bounded(err.Error())
		}
		if p != (status.Plug{}) {
			plugs[volume] = p
		}
	}
	volumes := slices.Clone(s.vmi.Status.VolumeStatus) // a write on the way brings a newer object
	for i := range volumes {
		v := &volumes[i]
		if v.HotplugVolume == nil || s.view.Peer == nil {
			continue
		}
		// The volume before may have changed the domain; without its document nobody knows what the guest has.
		if err := s.learn(ctx); err != nil {
			return plugs, err
		}
		switch {
		case v.MemoryDumpVolume != nil && (v.Phase == v1.HotplugVolumeAttachedToNode || v.Phase == v1.MemoryDumpVolumeInProgress):
			p, err := s.dump(ctx, v)
			note(v.Name, p, err)
		case v.MemoryDumpVolume != nil && v.Phase != v1.HotplugVolumeDetaching:
		case v.Phase == v1.HotplugVolumeAttachedToNode, v.Phase == v1.HotplugVolumeMounted:
			p, err := s.plugIn(ctx, v)
			note(v.Name, p, err)
		case v.Phase == v1.HotplugVolumeDetaching:
			p, err := s.pullOut(ctx, v)
			note(v.Name, p, err)
		}
	}
	return plugs, errors.Join(failures...)
}

// plugIn makes a volume appear in the pod and in the guest.
func (s *session) plugIn(ctx context.Context, v *v1.VolumeStatus) (status.Plug, error) {
	if !slices.ContainsFunc(s.vmi.Spec.Volumes, func(spec v1.Volume) bool { return spec.Name == v.Name }) {
		return status.Plug{}, nil // virt-controller is about to say that it goes
	}
	if s.mem.domain != nil && s.mem.domain.Targets[v.Name] != "" && s.mem.domain.Full[v.Name] {
		return status.Plug{Phase: v1.VolumeReady, Reason: reasonReady, Message: readyMessage(v.Name)}, nil
	}
	err := s.bring(ctx, v.Name, v.HotplugVolume.AttachPodUID)
	if errors.Is(err, errNotHeld) {
		return status.Plug{}, nil
	}
	if err != nil {
		return status.Plug{Phase: v.Phase, Reason: v.Reason}, err
	}
	mounted := status.Plug{
		Phase: v1.HotplugVolumeMounted, Reason: reasonMounted,
		Message: fmt.Sprintf("Volume %s has been mounted in virt-launcher pod", v.Name),
	}
	facts, err := s.prepareOne(ctx, v.Name)
	if err != nil {
		return mounted, err
	}
	if err := s.attach(ctx, v.Name, facts); err != nil {
		return mounted, err
	}
	s.mem.domain = nil
	ctrl.LoggerFrom(ctx).Info("plugged in", "vmi", s.ref.VMI, "volume", v.Name)
	return status.Plug{Phase: v1.VolumeReady, Reason: reasonReady, Message: readyMessage(v.Name)}, nil
}

// attach gives the guest a disk, or puts it into the drive that waits for it.
func (s *session) attach(ctx context.Context, volume string, facts wire.DiskFacts) error {
	if s.mem.domain == nil || s.mem.domain.Targets[volume] == "" {
		device, err := domain.DiskDevice(s.vmi, volume, facts)
		if err != nil {
			return err
		}
		return s.view.Peer.Client.Attach(ctx, device)
	}
	doc, err := s.view.Peer.Client.DomainXML(ctx, wire.DomainXMLRequest{})
	if err != nil {
		return err
	}
	drive, err := domain.Medium(doc, volume, &facts)
	if err != nil {
		return err
	}
	return s.view.Peer.Client.Update(ctx, drive)
}

func readyMessage(volume string) string {
	return fmt.Sprintf("Successfully attach hotplugged volume %s to VM", volume)
}

func (s *session) prepareOne(ctx context.Context, volume string) (wire.DiskFacts, error) {
	spec, err := domain.HotplugDisk(s.vmi, volume, domain.DiskOptions{BlockVolumes: domain.BlockVolumes(s.vmi)})
	if err != nil {
		return wire.DiskFacts{}, err
	}
	result, err := s.view.Peer.Client.Prepare(ctx, wire.PrepareRequest{Disks: []wire.DiskSpec{spec}})
	if err != nil {
		return wire.DiskFacts{}, err
	}
	if len(result.Disks) != 1 {
		return wire.DiskFacts{}, errors.New("the launcher did not say what the disk is")
	}
	return result.Disks[0], nil
}

// errNotHeld tells that an attachment pod is still starting; its socket brings us back.
var errNotHeld = errors.New("the attachment pod has only just been started; its socket is awaited")

// bring makes what an attachment pod holds appear in the launcher pod.
func (s *session) bring(ctx context.Context, volume string, attachment types.UID) error {
	if s.r.Connect == nil || attachment == "" {
		return errors.New("its attachment pod is not known yet")
	}
	holder, err := s.r.Connect(ctx, attachment)
	if errors.Is(err, fs.ErrNotExist) {
		s.r.Launchers.AwaitHolder(attachment, s.ref.Pod)
		return errNotHeld
	}
	if err != nil {
		return err
	}
	defer holder.Close()
	from, err := holder.Mounts()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := s.view.Peer.Mounts()
	if err != nil {
		return err
	}
	defer to.Close()
	source := hotplug.Place{Mounts: from, Dir: layout.HeldDir, Name: s.heldFile(volume)}
	target := hotplug.Place{Mounts: to, Dir: layout.HotplugDir, Name: path.Base(domain.HotplugFile(volume))}
	if domain.BlockVolumes(s.vmi)[volume] {
		source.Dir, source.Name = path.Split(layout.HeldDevice)
		target.Name = path.Base(domain.HotplugDevice(volume))
	}
	found, err := hotplug.Bind(source, target, layout.UID)
	if err != nil {
		return err
	}
	return permit(s.view.Peer, target, found, true)
}

// heldFile is the file of a volume that is held: a disk image, or what takes a memory dump.
func (s *session) heldFile(volume string) string {
	for i := range s.vmi.Status.VolumeStatus {
		if v := &s.vmi.Status.VolumeStatus[i]; v.Name == volume && v.MemoryDumpVolume != nil {
			return v.MemoryDumpVolume.TargetFileName
		}
	}
	return path.Base(layout.HeldImage)
}

func permit(launcher *discovery.Peer, at hotplug.Place, v hotplug.Volume, allow bool) error {
	c := hotplug.Container{
		Mounts: at.Mounts, Cgroup: func() ([]byte, error) { return launcher.Status("cgroup") }, Dirs: []string{at.Dir},
	}
	return c.Permit(v, allow)
}

// pullOut takes a volume from the guest, when that lets it go, and then from the pod.
func (s *session) pullOut(ctx context.Context, v *v1.VolumeStatus) (status.Plug, error) {
	if s.mem.domain != nil && s.mem.domain.Targets[v.Name] != "" {
		if err := s.detach(ctx, v.Name); err != nil {
			return status.Plug{Phase: v.Phase, Reason: v.Reason}, err
		}
		s.mem.domain = nil
		ctrl.LoggerFrom(ctx).Info("unplugged", "vmi", s.ref.VMI, "volume", v.Name)
	}
	mounts, err := s.view.Peer.Mounts()
	if err != nil {
		return status.Plug{}, err
	}
	defer mounts.Close()
	for _, name := range []string{path.Base(domain.HotplugFile(v.Name)), path.Base(domain.HotplugDevice(v.Name))} {
		at := hotplug.Place{Mounts: mounts, Dir: layout.HotplugDir, Name: name}
		was, err := hotplug.Release(at)
		if err == nil {
			err = permit(s.view.Peer, at, was, false)
		}
		if err != nil {
			return status.Plug{}, err
		}
	}
	return status.Plug{
		Phase: v1.HotplugVolumeUnMounted, Reason: reasonUnmounted,
		Message: fmt.Sprintf("Volume %s has been unmounted from virt-launcher pod", v.Name),
	}, nil
}

// detach waits a while for the guest. A drive whose disk the object still names only loses its medium.
func (s *session) detach(ctx context.Context, volume string) error {
	doc, err := s.view.Peer.Client.DomainXML(ctx, wire.DomainXMLRequest{})
	if err != nil {
		return err
	}
	for _, d := range s.vmi.Spec.Domain.Devices.Disks {
		if d.Name == volume && d.CDRom != nil {
			empty, err := domain.Medium(doc, volume, nil)
			if err != nil {
				return err
			}
			return s.view.Peer.Client.Update(ctx, empty)
		}
	}
	device, err := domain.DiskOf(doc, volume)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	if err := s.view.Peer.Client.Detach(ctx, device); err != nil && wire.CodeOf(err) != wire.CodeNotFound {
		return err
	}
	return nil
}

// bringAll makes all plugged volumes appear in the pod of a migration's target, where the guest comes with their disks. With errNotHeld
// an event of the attachment pod that is missing brings us back.
func (s *session) bringAll(ctx context.Context) error {
	for i := range s.vmi.Status.VolumeStatus {
		v := &s.vmi.Status.VolumeStatus[i]
		if v.HotplugVolume == nil || v.Phase != v1.VolumeReady {
			continue
		}
		pod := &corev1.Pod{}
		key := client.ObjectKey{Namespace: s.pod.Namespace, Name: layout.AttachmentPod(string(s.pod.UID), v.Name)}
		if err := s.r.Cache.Get(ctx, key, pod); apierrors.IsNotFound(err) {
			return errNotHeld
		} else if err != nil {
			return fmt.Errorf("volume %s: find its attachment pod on this node: %w", v.Name, err)
		}
		if podEnded(pod) {
			return fmt.Errorf("volume %s: its attachment pod %s has ended: %s", v.Name, pod.Name, pod.Status.Message)
		}
		if err := s.bring(ctx, v.Name, pod.UID); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	return nil
}
