package migration

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	v1 "kubevirt.io/api/core/v1"
)

// Address is where other nodes reach this one's Receiver: on the network that is for migrations if virt-handler's pod has one, otherwise
// at the pod's own address.
func Address(pod string) (string, error) {
	dedicated, err := netlink.LinkByName(v1.MigrationInterfaceName)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return pod, nil
	}
	if err != nil {
		return "", fmt.Errorf("look for a network for migrations: %w", err)
	}
	addresses, err := netlink.AddrList(dedicated, netlink.FAMILY_ALL)
	if err != nil {
		return "", fmt.Errorf("read the addresses of %s: %w", v1.MigrationInterfaceName, err)
	}
	for _, a := range addresses {
		if a.IP.IsGlobalUnicast() {
			return a.IP.String(), nil
		}
	}
	return "", fmt.Errorf("%s, the network for migrations, has no address: give its NetworkAttachmentDefinition an ipam that assigns one", v1.MigrationInterfaceName)
}
