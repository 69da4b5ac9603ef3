package main

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// node is one entry of an initrd.
type node struct {
	path string
	mode fs.FileMode
	uid  int
	data []byte // bytes of a file, target of a symlink
	dev  [2]int // major and minor of a character device
}

// initrd collects the entries of an initial RAM file system by path.
type initrd map[string]node

func (i initrd) dir(name string, perm fs.FileMode) {
	i.add(node{path: name, mode: fs.ModeDir | perm})
}

func (i initrd) link(name, target string) {
	i.add(node{path: name, mode: fs.ModeSymlink | 0o777, data: []byte(target)})
}

// add puts n in, with the folders above it.
func (i initrd) add(n node) {
	n.path = strings.TrimPrefix(path.Clean("/"+n.path), "/")
	if n.path == "" {
		return
	}
	i[n.path] = n
	if parent := path.Dir(n.path); parent != "." {
		if _, ok := i[parent]; !ok {
			i.dir(parent, 0o755)
		}
	}
}

// write writes the "newc" archive that the kernel unpacks, the same bytes for the same entries.
func (i initrd) write(w io.Writer) error {
	paths := make([]string, 0, len(i))
	for p := range i {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	// The kernel's own root folder is writable for everybody.
	if err := writeCpio(w, 1, node{path: ".", mode: fs.ModeDir | 0o755}); err != nil {
		return err
	}
	for n, p := range paths {
		if err := writeCpio(w, n+2, i[p]); err != nil {
			return fmt.Errorf("write %s to the initrd: %w", p, err)
		}
	}
	return writeCpio(w, 0, node{path: "TRAILER!!!"})
}

// writeCpio writes header, name and data, each padded to four bytes. Times are zero.
func writeCpio(w io.Writer, ino int, n node) error {
	links := 1
	if n.mode.IsDir() {
		links = 2
	}
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		ino, cpioMode(n.mode), n.uid, n.uid, links, 0, len(n.data), 0, 0, n.dev[0], n.dev[1], len(n.path)+1, 0)
	name := header + n.path + "\x00"
	for _, part := range [][]byte{pad([]byte(name)), pad(n.data)} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func pad(b []byte) []byte {
	if rest := len(b) % 4; rest != 0 {
		return append(slices.Clip(b), make([]byte, 4-rest)...)
	}
	return b
}

func cpioMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	switch {
	case m.IsDir():
		return mode | 0o040000
	case m&fs.ModeSymlink != 0:
		return mode | 0o120000
	case m&fs.ModeCharDevice != 0:
		return mode | 0o020000
	}
	return mode | 0o100000
}
