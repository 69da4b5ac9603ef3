package launcherpod

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	v1 "kubevirt.io/api/core/v1"
)

// Annotations of the Kubernetes network plumbing group and of Multus.
const (
	networksAnnotation       = "k8s.v1.cni.cncf.io/networks"
	defaultNetworkAnnotation = "v1.multus-cni.io/default-network"
)

// multusNetwork is one element of the networks annotation.
type multusNetwork struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Interface string `json:"interface,omitempty"`
	MAC       string `json:"mac,omitempty"`
}

// SecondaryLink is the name of the pod's link for a network other than the pod's own. It follows from the network's name in
// the VMI, so that adding or removing another network never renames it; 14 characters, as the kernel allows 15. A test holds
// it equal to network.SecondaryLink, by which virt-handler finds the link; importing that here would bring in netlink.
func SecondaryLink(network string) string {
	sum := sha256.Sum256([]byte(network))
	return "pod" + hex.EncodeToString(sum[:])[:11]
}

func multusAnnotations(vmi *v1.VirtualMachineInstance) (map[string]string, error) {
	var list []multusNetwork
	a := map[string]string{}
	for i := range vmi.Spec.Networks {
		n := &vmi.Spec.Networks[i]
		if n.Multus == nil {
			continue
		}
		iface := interfaceNamed(vmi, n.Name)
		if iface != nil && iface.State == v1.InterfaceStateAbsent {
			continue
		}
		namespace, name := splitNetwork(vmi.Namespace, n.Multus.NetworkName)
		if n.Multus.Default {
			a[defaultNetworkAnnotation] = namespace + "/" + name
			continue
		}
		element := multusNetwork{Name: name, Namespace: namespace, Interface: SecondaryLink(n.Name)}
		if iface != nil {
			element.MAC = iface.MacAddress
		}
		list = append(list, element)
	}
	if len(list) == 0 {
		return a, nil
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("write the annotation %s: %w", networksAnnotation, err)
	}
	a[networksAnnotation] = string(text)
	return a, nil
}

// splitNetwork reads "name" or "namespace/name".
func splitNetwork(own, ref string) (namespace, name string) {
	if ns, n, ok := strings.Cut(ref, "/"); ok {
		return ns, n
	}
	return own, ref
}

func interfaceNamed(vmi *v1.VirtualMachineInstance, name string) *v1.Interface {
	for i := range vmi.Spec.Domain.Devices.Interfaces {
		if vmi.Spec.Domain.Devices.Interfaces[i].Name == name {
			return &vmi.Spec.Domain.Devices.Interfaces[i]
		}
	}
	return nil
}

// hasNetwork tells whether the guest gets a network card. Admission has already written down the default interface; a VMI
// without one either wants none or was made before that.
func hasNetwork(vmi *v1.VirtualMachineInstance) bool {
	d := &vmi.Spec.Domain.Devices
	return len(d.Interfaces) > 0 || isOn(d.AutoattachPodInterface)
}

func hasVirtioInterface(vmi *v1.VirtualMachineInstance) bool {
	d := &vmi.Spec.Domain.Devices
	for i := range d.Interfaces {
		if model := d.Interfaces[i].Model; (model == "" || model == v1.VirtIO) && d.Interfaces[i].SRIOV == nil {
			return true
		}
	}
	return len(d.Interfaces) == 0
}

// ports lists the ports the interfaces name; they document, and NetworkPolicies and Services may refer to their names.
func ports(vmi *v1.VirtualMachineInstance) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for i := range vmi.Spec.Domain.Devices.Interfaces {
		for _, p := range vmi.Spec.Domain.Devices.Interfaces[i].Ports {
			protocol := corev1.Protocol(strings.ToUpper(p.Protocol))
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			out = append(out, corev1.ContainerPort{Name: p.Name, Protocol: protocol, ContainerPort: p.Port})
		}
	}
	return out
}
