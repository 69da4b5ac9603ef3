package hostdevices

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/server/handler/devices"
	"virtctl/internal/server/handler/hardware"
)

// tree makes files and, where the text begins with "->", links.
func tree(t *testing.T, files map[string]string) Finder {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if len(text) > 2 && text[:2] == "->" {
			err = os.Symlink(text[2:], file)
		} else {
			err = os.WriteFile(file, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Finder{Sys: root}
}

// node is one with two graphics cards (one of them not ours), two functions in one group, a virtual GPU and three USB devices.
func node(t *testing.T) Finder {
	pci := func(group, driver, id, numa string, at string) map[string]string {
		dir := "bus/pci/devices/" + at + "/"
		return map[string]string{
			dir + "uevent": "DRIVER=" + driver + "\nPCI_CLASS=30000\nPCI_ID=" + id + "\n", dir + "iommu_group": "->../../../kernel/iommu_groups/" + group, dir + "numa_node": numa + "\n",
		}
	}
	usb := func(name, product, bus, number string) map[string]string {
		return map[string]string{"bus/usb/devices/" + name + "/uevent": "DEVTYPE=usb_device\nPRODUCT=" + product + "\nBUSNUM=" + bus + "\nDEVNUM=" + number + "\n"}
	}
	const uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	files := map[string]string{
		"devices/pci0000:3a/0000:3b:00.0/numa_node":                "1\n",
		"devices/pci0000:3a/0000:3b:00.0/" + uuid + "/mdev_type":   "->../types/nvidia-222",
		"devices/pci0000:3a/0000:3b:00.0/types/nvidia-222/name":    "GRID T4-1B\n",
		"devices/pci0000:3a/0000:3b:00.0/" + uuid + "/iommu_group": "->../../../../kernel/iommu_groups/77",
		"bus/mdev/devices/" + uuid:                                 "->../../../devices/pci0000:3a/0000:3b:00.0/" + uuid,
		"bus/usb/devices/1-1:1.0/uevent":                           "DEVTYPE=usb_interface\nPRODUCT=951/1666/110\n",
		"bus/usb/devices/bad/uevent":                               "DEVTYPE=usb_device\nPRODUCT=zz/1666/110\nBUSNUM=001\nDEVNUM=009\n",
		"bus/pci/devices/0000:ff:00.0/uevent":                      "DRIVER=vfio-pci\nPCI_ID=10DE:1EB8\n", // gone while we look: no group
	}
	for _, part := range []map[string]string{
		pci("40", "vfio-pci", "10DE:1EB8", "0", "0000:17:00.0"), pci("41", "nouveau", "10DE:1EB8", "0", "0000:18:00.0"),
		pci("42", "vfio-pci", "8086:1521", "-1", "0000:19:00.0"), pci("42", "vfio-pci", "8086:1521", "-1", "0000:19:00.1"),
		usb("1-1", "951/1666/110", "001", "004"), usb("1-2", "46d/c31c/6400", "001", "005"), usb("2-1", "951/1666/110", "002", "012"),
	} {
		for name, text := range part {
			files[name] = text
		}
	}
	return tree(t, files)
}

func permitted() *v1.PermittedHostDevices {
	return &v1.PermittedHostDevices{
		PciHostDevices: []v1.PciHostDevice{
			{ResourceName: "nvidia.com/T4", PCIVendorSelector: "10de:1eb8"},
			{ResourceName: "intel.com/nic", PCIVendorSelector: "8086:1521"},
			{ResourceName: "example.com/none", PCIVendorSelector: "dead:beef"},
			{ResourceName: "example.com/theirs", PCIVendorSelector: "10DE:1EB8", ExternalResourceProvider: true},
		},
		MediatedDevices: []v1.MediatedHostDevice{{ResourceName: "nvidia.com/GRID_T4-1B", MDEVNameSelector: "GRID T4-1B"}},
		USB: []v1.USBHostDevice{
			{ResourceName: "kubevirt.io/set", Selectors: []v1.USBSelector{{Vendor: "0951", Product: "1666"}, {Vendor: "046d", Product: "c31c"}}},
			{ResourceName: "kubevirt.io/stick", Selectors: []v1.USBSelector{{Vendor: "0951", Product: "1666"}}},
		},
	}
}

// What the administrator permits and the node has is offered, each device once, and nothing else.
func TestFind(t *testing.T) {
	got, err := node(t).Find(permitted())
	if err != nil {
		t.Fatal(err)
	}
	const uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
	want := []devices.Offer{
		{Resource: "nvidia.com/T4", Variable: "PCI_RESOURCE_NVIDIA_COM_T4", Units: []devices.Unit{
			{ID: "0000:17:00.0", Values: []string{"0000:17:00.0"}, Nodes: []string{"/dev/vfio/vfio", "/dev/vfio/40"}, NUMA: 0},
		}},
		{Resource: "intel.com/nic", Variable: "PCI_RESOURCE_INTEL_COM_NIC", Units: []devices.Unit{
			{ID: "0000:19:00.0", Values: []string{"0000:19:00.0"}, Nodes: []string{"/dev/vfio/vfio", "/dev/vfio/42"}, NUMA: -1},
		}},
		{Resource: "example.com/none", Variable: "PCI_RESOURCE_EXAMPLE_COM_NONE"},
		{Resource: "nvidia.com/GRID_T4-1B", Variable: "MDEV_PCI_RESOURCE_NVIDIA_COM_GRID_T4_1B", Units: []devices.Unit{
			{ID: uuid, Values: []string{uuid}, Nodes: []string{"/dev/vfio/vfio", "/dev/vfio/77"}, NUMA: 1},
		}},
		{Resource: "kubevirt.io/set", Variable: "USB_RESOURCE_KUBEVIRT_IO_SET", Units: []devices.Unit{
			{ID: "1-4+1-5", Values: []string{"1:4", "1:5"}, Nodes: []string{"/dev/bus/usb/001/004", "/dev/bus/usb/001/005"}, NUMA: -1},
		}},
		{Resource: "kubevirt.io/stick", Variable: "USB_RESOURCE_KUBEVIRT_IO_STICK", Units: []devices.Unit{
			{ID: "2-12", Values: []string{"2:12"}, Nodes: []string{"/dev/bus/usb/002/012"}, NUMA: -1},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("found\n%+v\nwant\n%+v", got, want)
	}
	// A node without any of these buses is no error.
	empty, err := Finder{Sys: t.TempDir()}.Find(permitted())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range empty {
		if len(o.Units) > 0 {
			t.Errorf("found %+v", o)
		}
	}
	if got, err := node(t).Find(nil); err != nil || got != nil {
		t.Errorf("nothing is permitted: %v, %v", got, err)
	}
}

// What a plugin says in the environment, the handler finds in the launcher: device by device.
func TestGivenIsWhatWasOffered(t *testing.T) {
	finder := node(t)
	found, err := finder.Find(permitted())
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, o := range found {
		for _, u := range o.Units {
			env[o.Variable] = u.Values[0]
		}
	}
	vmi := &v1.VirtualMachineInstance{}
	vmi.Spec.Domain.Devices.HostDevices = []v1.HostDevice{{Name: "card", DeviceName: "nvidia.com/T4"}, {Name: "stick", DeviceName: "kubevirt.io/stick"}}
	vmi.Spec.Domain.Devices.GPUs = []v1.GPU{{Name: "gpu", DeviceName: "nvidia.com/GRID_T4-1B"}}
	given, err := hardware.Given(vmi, env)
	if err != nil {
		t.Fatal(err)
	}
	for name, nodes := range map[string][]string{
		"card": {"/dev/vfio/vfio", "/dev/vfio/40"}, "gpu": {"/dev/vfio/vfio", "/dev/vfio/77"}, "stick": {"/dev/bus/usb/002/012"},
	} {
		if got := finder.Nodes(given[name]); !reflect.DeepEqual(got, nodes) {
			t.Errorf("%s is used by %v, want %v", name, got, nodes)
		}
	}
	if got := finder.Nodes(domain.HostDevice{PCI: "../../../etc"}); got != nil {
		t.Errorf("an address that is a path: %v", got)
	}
}
