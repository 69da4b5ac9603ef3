//go:build sanity

package driver

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
)

// TestSanity: what the tests of clones stand on is a driver as CSI wants it. Mounts need root.
func TestSanity(t *testing.T) {
	dir := t.TempDir()
	d, err := New("node", filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "csi.sock")
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() { ended <- d.Serve(ctx, socket, "") }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	config := sanity.NewTestConfig()
	config.Address = "unix:" + socket
	config.TargetPath, config.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	config.TestVolumeSize, config.TestVolumeExpandSize = 4*mebibyte, 8*mebibyte
	sanity.Test(t, config)
}
