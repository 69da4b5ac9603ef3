//go:build unix

package images

import (
	"io/fs"
	"syscall"
)

type inode struct{ dev, ino uint64 }

type ownership struct {
	uid, gid int
	links    uint64
	inode    inode
}

// owner reads the numeric owner and the hard-link identity that io/fs does not carry.
func owner(info fs.FileInfo) ownership {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ownership{links: 1}
	}
	return ownership{
		uid:   int(st.Uid),
		gid:   int(st.Gid),
		links: uint64(st.Nlink),                                //nolint:unconvert // the field's type differs between systems
		inode: inode{dev: uint64(st.Dev), ino: uint64(st.Ino)}, //nolint:unconvert // as above
	}
}
