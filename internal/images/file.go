package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// File is one entry of a layer. Its bytes come from Data, or from the file Source of this machine when Source is set.
type File struct {
	Path   string      // inside the image, slash-separated, with or without a leading slash
	Mode   fs.FileMode // permission, setuid/setgid/sticky and type bits (directory, symlink or regular)
	UID    int
	GID    int
	Link   string // target of a symlink, or, for a regular file, the Path of the entry it is a hard link to
	Source string
	Data   []byte
}

// Dir is a directory entry owned by uid and gid.
func Dir(name string, perm fs.FileMode, uid, gid int) File {
	return File{Path: name, Mode: fs.ModeDir | perm, UID: uid, GID: gid}
}

// Tree returns the files below root as layer entries, with owners and modes as they are on disk. skip, if not nil, is asked for
// every path relative to root; a skipped directory is left out with all it contains. Sockets, pipes and devices are
// left out: a container runtime brings its own.
func Tree(root string, skip func(rel string, d fs.DirEntry) bool) ([]File, error) {
	var files []File
	links := map[inode]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		rel = filepath.ToSlash(rel)
		if skip != nil && skip(rel, d) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		f, ok, err := treeEntry(p, rel, links)
		if ok {
			files = append(files, f)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree %s: %w", root, err)
	}
	return files, nil
}

// treeEntry describes one path; ok is false for a kind of file that has no place in an image.
func treeEntry(p, rel string, links map[inode]string) (f File, ok bool, err error) {
	info, err := os.Lstat(p)
	if err != nil {
		return File{}, false, err
	}
	own := owner(info)
	f = File{Path: rel, Mode: info.Mode(), UID: own.uid, GID: own.gid}
	switch {
	case info.Mode().IsRegular():
		if own.links > 1 {
			if first, seen := links[own.inode]; seen {
				f.Link = first
				return f, true, nil
			}
			links[own.inode] = rel
		}
		f.Source = p
	case info.Mode()&fs.ModeSymlink != 0:
		f.Link, err = os.Readlink(p)
	case !info.IsDir():
		return File{}, false, nil
	}
	return f, true, err
}

// arrange cleans the paths, adds the missing parent directories (0755, root) and sorts, so that a layer never depends on the
// order in which its files were listed. Hard links come after every other entry: their target must exist by then.
func arrange(files []File) ([]File, error) {
	byPath := make(map[string]File, len(files))
	for _, f := range files {
		clean := strings.TrimPrefix(path.Clean("/"+f.Path), "/")
		if clean == "" {
			return nil, errors.New("a layer entry has no path: name the file inside the image")
		}
		if _, twice := byPath[clean]; twice {
			return nil, fmt.Errorf("%s is in the same layer twice: list it once", clean)
		}
		f.Path = clean
		byPath[clean] = f
	}
	for _, f := range files {
		for dir := path.Dir(strings.TrimPrefix(path.Clean("/"+f.Path), "/")); dir != "."; dir = path.Dir(dir) {
			if _, ok := byPath[dir]; !ok {
				byPath[dir] = Dir(dir, 0o755, 0, 0)
			}
		}
	}
	out := make([]File, 0, len(byPath))
	for _, f := range byPath {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b File) int {
		if ha, hb := a.isHardLink(), b.isHardLink(); ha != hb {
			if ha {
				return 1
			}
			return -1
		}
		return strings.Compare(a.Path, b.Path)
	})
	return out, nil
}

func (f File) isHardLink() bool { return f.Mode.IsRegular() && f.Link != "" }

// header is f's tar header without times: writeTar sets those.
func (f File) header(size int64) (*tar.Header, error) {
	h := &tar.Header{Name: f.Path, Mode: int64(f.Mode.Perm()), Uid: f.UID, Gid: f.GID, Format: tar.FormatPAX}
	for bit, value := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if f.Mode&bit != 0 {
			h.Mode |= value
		}
	}
	switch {
	case f.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, f.Path+"/"
	case f.Mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
	case f.isHardLink():
		h.Typeflag, h.Linkname = tar.TypeLink, strings.TrimPrefix(path.Clean("/"+f.Link), "/")
	case f.Mode.IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, size
	default:
		return nil, fmt.Errorf("%s is a %s: a layer holds files, directories and links", f.Path, f.Mode.Type())
	}
	return h, nil
}

// open returns f's bytes and how many there are.
func (f File) open() (io.ReadCloser, int64, error) {
	if f.Source == "" {
		return io.NopCloser(strings.NewReader(string(f.Data))), int64(len(f.Data)), nil
	}
	file, err := os.Open(f.Source)
	if err != nil {
		return nil, 0, fmt.Errorf("read the file for %s: %w", f.Path, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Source)
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// reader is open without the size.
func (f File) reader() (io.ReadCloser, error) {
	r, _, err := f.open()
	return r, err
}
