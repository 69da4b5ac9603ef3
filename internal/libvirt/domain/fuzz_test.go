package domain

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	v1 "kubevirt.io/api/core/v1"
	"libvirt.org/go/libvirtxml"
	"sigs.k8s.io/yaml"
)

// Whoever may create a VirtualMachineInstance decides every byte of it. virt-handler serves a whole node: no object may make it
// panic, hang or eat the node's memory.
func FuzzConvert(f *testing.F) {
	for _, name := range caseNames(f) {
		doc, err := os.ReadFile(filepath.Join("testdata", name+".vmi.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		seed, err := yaml.YAMLToJSON(doc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, doc []byte, kvm bool) {
		vmi := &v1.VirtualMachineInstance{}
		if json.Unmarshal(doc, vmi) != nil {
			return
		}
		specs, err := Disks(vmi, DiskOptions{AllowHostDisk: true})
		checkError(t, err)
		in := Input{
			Host: Host{KVM: kvm}, CPUSet: []int{1, 2, 3}, Disks: prepared(specs), Interfaces: map[string]Interface{},
			HostDevices: map[string]HostDevice{}, StateClaim: kvm,
		}
		in.Host.NUMA = []NUMANode{{ID: 0, CPUs: []int{0, 1}}, {ID: 1, CPUs: []int{2, 3}}}
		for _, iface := range vmi.Spec.Domain.Devices.Interfaces {
			in.Interfaces[iface.Name] = Interface{Tap: "tap0", MTU: 1400, Queues: 2}
			in.HostDevices[iface.Name] = HostDevice{PCI: "0000:01:00.0"}
		}
		for _, gpu := range vmi.Spec.Domain.Devices.GPUs {
			in.HostDevices[gpu.Name] = HostDevice{MDev: "2f3f9b2a-5a0a-4f7e-8c57-1f1f1f1f1f1f"}
		}
		for _, fact := range in.Disks {
			_, err := DiskDevice(vmi, fact.Name, fact)
			checkError(t, err)
		}
		xml, err := XML(vmi, in)
		checkError(t, err)
		if err != nil {
			return
		}
		if len(xml) > 4<<20 {
			t.Fatalf("a document of %d bytes from an object of %d", len(xml), len(doc))
		}
		if err := new(libvirtxml.Domain).Unmarshal(xml); err != nil {
			t.Fatalf("the document cannot be read back: %v\n%s", err, xml)
		}
	})
}

// checkError wants every refusal to name its field.
func checkError(t *testing.T, err error) {
	t.Helper()
	var refused *FieldError
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("%v names no field", err)
	}
}
