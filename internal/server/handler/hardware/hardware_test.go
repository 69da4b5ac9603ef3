package hardware

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "kubevirt.io/api/core/v1"

	"virtctl/internal/libvirt/domain"
	"virtctl/internal/network"
)

func TestCPUList(t *testing.T) {
	for text, want := range map[string][]int{"0-3,8\n": {0, 1, 2, 3, 8}, "5": {5}, "": nil, "3,1,1": {1, 3}} {
		if got, err := CPUList(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"a", "3-1", "-1", "0-99999999", "1-b"} {
		if got, err := CPUList(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzCPUList(f *testing.F) {
	f.Add("0-3,8")
	f.Fuzz(func(t *testing.T, text string) {
		cpus, err := CPUList(text)
		if err == nil && (len(cpus) > maxCPU+1 || !slices.IsSorted(cpus)) {
			t.Errorf("%d processors", len(cpus))
		}
	})
}

// A guest pinned to processors that its pod does not own disturbs others.
func TestAllowed(t *testing.T) {
	got, err := Allowed([]byte("Name:\tvirt-launcher\nCpus_allowed:\t3c\nCpus_allowed_list:\t2-5\n"))
	if err != nil || !slices.Equal(got, []int{2, 3, 4, 5}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Allowed([]byte("Name:\tx\n")); err == nil {
		t.Error("nothing said")
	}
}

func TestNUMA(t *testing.T) {
	sys := t.TempDir()
	for node, cpus := range map[string]string{"node1": "2-3\n", "node0": "0-1\n"} {
		dir := filepath.Join(sys, "devices/system/node", node)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cpulist"), []byte(cpus), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := NUMA(sys)
	if err != nil || len(nodes) != 2 || nodes[0].ID != 0 || !slices.Equal(nodes[1].CPUs, []int{2, 3}) {
		t.Errorf("%+v, %v", nodes, err)
	}
}

// Two GPUs of one kind must become two devices, each once.
func TestGiven(t *testing.T) {
	vmi := &v1.VirtualMachineInstance{}
	vmi.Spec.Domain.Devices.GPUs = []v1.GPU{{Name: "a", DeviceName: "nvidia.com/TU104GL-T4"}, {Name: "b", DeviceName: "nvidia.com/TU104GL-T4"}}
	vmi.Spec.Domain.Devices.HostDevices = []v1.HostDevice{{Name: "key", DeviceName: "acme.org/usb"}, {Name: "missing", DeviceName: "acme.org/none"}, {Name: "vgpu", DeviceName: "acme.org/mdev"}}
	env := Environment([]byte("HOME=/\x00PCI_RESOURCE_NVIDIA_COM_TU104GL_T4=0000:81:00.0,0000:82:00.0\x00USB_RESOURCE_ACME_ORG_USB=1:7\x00" +
		"MDEV_PCI_RESOURCE_ACME_ORG_MDEV=11111111-1111-4111-8111-111111111111\x00"))
	got, err := Given(vmi, env)
	if err != nil || got["a"].PCI != "0000:81:00.0" || got["b"].PCI != "0000:82:00.0" || *got["key"].USB != (domain.USBAddress{Bus: 1, Device: 7}) ||
		got["vgpu"].MDev == "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, there := got["missing"]; there {
		t.Error("a device that was not given")
	}
	env["USB_RESOURCE_ACME_ORG_USB"] = "seven"
	if _, err := Given(vmi, env); err == nil {
		t.Error("a USB device without a place")
	}
}

func TestSRIOV(t *testing.T) {
	vmi := &v1.VirtualMachineInstance{}
	vmi.Spec.Domain.Devices.Interfaces = []v1.Interface{
		{Name: "fast", InterfaceBindingMethod: v1.InterfaceBindingMethod{SRIOV: &v1.InterfaceSRIOV{}}}, {Name: "default"},
	}
	status := `[{"name":"cbr0","interface":"eth0","default":true},{"name":"lab/fast","interface":"` + network.SecondaryLink("fast") +
		`","device-info":{"type":"pci","pci":{"pci-address":"0000:65:00.2"}}}]`
	got, err := SRIOV(vmi, status)
	if err != nil || len(got) != 1 || got["fast"].PCI != "0000:65:00.2" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := SRIOV(vmi, "{"); err == nil {
		t.Error("a broken annotation")
	}
}
