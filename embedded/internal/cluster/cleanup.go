package cluster

import (
	"errors"
	"fmt"
	"os"

	"virtctl/embedded/internal/cgroup"
	"virtctl/embedded/internal/network"
	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
	"virtctl/embedded/internal/storage"
)

// Cleanup removes everything of an instance but its state: processes, links, tables, cgroups, loop devices. Mounts and namespaces go
// with the processes that held them. The caller holds the instance's lock.
func Cleanup(o options.Options) error {
	c, err := plan.New(o)
	if err != nil {
		return err
	}
	tree, err := cgroup.Open()
	if err != nil {
		return err
	}
	if err := tree.Kill(o.CgroupRoot()); err != nil {
		return err
	}
	return errors.Join(
		tree.Remove(o.CgroupRoot()),
		network.Host{Options: o, Plan: c}.Teardown(),
		storage.DetachAll(o.VolumeDir()),
		os.RemoveAll(o.EtcdRunDir()),
		removeFile(o.ControlSocket()),
	)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}
