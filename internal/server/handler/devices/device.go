// Package devices offers the node's devices to launcher pods through the kubelet's device plugin API, and lets launchers open
// what they were given.
package devices

// Device is one kind of device.
type Device struct {
	// Name is the last part of the resource's name.
	Name string
	// Resource is what pods ask for.
	Resource string
	Path     string
	// Major and Minor are the device's numbers, fixed by Linux; those of a device without a major are given out by the node's kernel.
	Major, Minor uint32
	// On is the root directory below which Path is the node's own device, if that is not ours.
	On string
}

// The devices, each of which any number of pods can use at once.
var (
	KVM      = Device{Name: "kvm", Resource: "devices.kubevirt.io/kvm", Path: "/dev/kvm", Major: 10, Minor: 232}
	TUN      = Device{Name: "tun", Resource: "devices.kubevirt.io/tun", Path: "/dev/net/tun", Major: 10, Minor: 200}
	VhostNet = Device{Name: "vhost-net", Resource: "devices.kubevirt.io/vhost-net", Path: "/dev/vhost-net", Major: 10, Minor: 238}
	// Userfaultfd lets QEMU fetch a guest's memory when it is touched: post-copy migration. Its system call is not open to pods.
	Userfaultfd = Device{Name: "userfaultfd", Resource: "devices.kubevirt.io/userfaultfd", Path: "/dev/userfaultfd"}
)

// All is every device.
func All() []Device { return []Device{KVM, TUN, VhostNet, Userfaultfd} }
