package domain

import (
	"regexp"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"libvirt.org/go/libvirtxml"
)

// pciPattern is domain:bus:slot.function in hexadecimal.
const pciPattern = `^([0-9a-fA-F]{4}):([0-9a-fA-F]{2}):([0-1][0-9a-fA-F])\.([0-7])$`

func pciAddress(address string, at *field.Path) (*libvirtxml.DomainAddress, error) {
	parts := regexp.MustCompile(pciPattern).FindStringSubmatch(address)
	if parts == nil {
		return nil, invalid(at, "%q is not a PCI address like 0000:81:01.0", address)
	}
	var numbers [4]uint
	for i, part := range parts[1:] {
		number, err := strconv.ParseUint(part, 16, 16)
		if err != nil {
			return nil, invalid(at, "%q is not a PCI address like 0000:81:01.0", address)
		}
		numbers[i] = uint(number)
	}
	return pciAt(numbers[0], numbers[1], numbers[2], numbers[3]), nil
}

func pciAt(domain, bus, slot, function uint) *libvirtxml.DomainAddress {
	return &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{
		Domain: &domain, Bus: &bus, Slot: &slot, Function: &function,
	}}
}
