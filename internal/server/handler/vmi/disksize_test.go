package vmi

import (
	"testing"

	"virtctl/internal/libvirt/wire"
)

// A disk taken for another would be cut or left small.
func TestDiskSize(t *testing.T) {
	stats := wire.Stats{
		Names:  map[string]string{"block.0.name": "vda", "block.1.name": "sda", "net.0.name": "sdb"},
		Values: map[string]uint64{"block.0.capacity": 10, "block.1.capacity": 20, "net.0.capacity": 30},
	}
	if size, ok := diskSize(stats, "sda"); !ok || size != 20 {
		t.Errorf("%d %v", size, ok)
	}
	for _, target := range []string{"sdb", "vdb", ""} {
		if size, ok := diskSize(stats, target); ok {
			t.Errorf("%q: %d", target, size)
		}
	}
}
