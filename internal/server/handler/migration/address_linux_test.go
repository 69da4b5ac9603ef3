package migration

import (
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	v1 "kubevirt.io/api/core/v1"
)

// alone runs fn in a network namespace of its own, as in a pod. It needs root.
func alone(t *testing.T, fn func() error) error {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		// The thread ends with the namespace: it is never unlocked.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			failed <- err
			return
		}
		failed <- fn()
	}()
	return <-failed
}

func TestAddress(t *testing.T) {
	for _, c := range []struct{ name, link, address, want, wantErr string }{
		{"no network for migrations", "eth1", "10.1.1.1/24", "10.0.0.9", ""},
		{"a network for migrations", v1.MigrationInterfaceName, "10.1.1.1/24", "10.1.1.1", ""},
		{"its address is of version 6", v1.MigrationInterfaceName, "fd00::7/64", "fd00::7", ""},
		{"it gives no address", v1.MigrationInterfaceName, "", "", "has no address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got string
			err := alone(t, func() error {
				link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: c.link}, PeerName: "peer"}
				if err := netlink.LinkAdd(link); err != nil {
					return err
				}
				if c.address != "" {
					address, err := netlink.ParseAddr(c.address)
					if err != nil {
						return err
					}
					if err := netlink.AddrAdd(link, address); err != nil {
						return err
					}
				}
				var err error
				got, err = Address("10.0.0.9")
				return err
			})
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) {
					t.Errorf("got %q, %v, want the error %q", got, err, c.wantErr)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}
