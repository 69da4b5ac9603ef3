package images

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// diskUser is the uid and gid that QEMU runs as in KubeVirt's pods: a container disk must be readable for it.
const diskUser = 107

// ContainerDisk lists the files of a container disk image, KubeVirt's way of shipping a guest's disk: the one file in /disk.
func ContainerDisk(disk string) ([]File, error) {
	info, err := os.Stat(disk)
	if err != nil {
		return nil, fmt.Errorf("read the disk: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file: give a qcow2 or raw disk image", disk)
	}
	base := filepath.Base(disk)
	if strings.HasPrefix(base, ".") {
		return nil, errors.New("the disk's file name must not begin with a dot: hidden files in /disk are not found")
	}
	return []File{
		Dir("disk", 0o555, diskUser, diskUser),
		{Path: "disk/" + base, Mode: 0o440, UID: diskUser, GID: diskUser, Source: disk},
	}, nil
}
