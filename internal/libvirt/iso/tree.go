// Package iso writes small ISO 9660 images with Rock Ridge and Joliet names, for cloud-init, sysprep and configuration data. The
// usual program for it takes a tenth of a second, most of it waiting; this is on the path of every start.
package iso

import (
	"errors"
	"fmt"
	"path"
	"sort"
	"strings"
	"unicode/utf16"
)

const (
	// MaxFiles and MaxBytes bound an image. A Secret or ConfigMap has at most 1 MiB.
	MaxFiles = 4096
	MaxBytes = 64 << 20

	maxDepth    = 8
	maxName     = 255
	maxJoliet   = 100 // UCS-2 characters, without the version suffix; what Linux and Windows read
	maxISOLabel = 32
	maxJolLabel = 16
)

// File is one file of an image; Path is relative, with slashes.
type File struct {
	Path    string
	Content []byte
}

// node is a file or directory.
type node struct {
	name     string
	dir      bool
	content  []byte
	children []*node // sorted by name
	parent   *node

	isoName    []byte // ISO 9660 identifier
	jolietName []byte // UCS-2 identifier
	// extent and size by tree: [0] ISO 9660, [1] Joliet; files have the same in both.
	extent [2]uint32
	size   [2]uint32
	number [2]uint16 // of a directory in the path table
}

func buildTree(files []File) (*node, error) {
	root := &node{dir: true}
	if len(files) > MaxFiles {
		return nil, fmt.Errorf("%d files are more than an image may have (%d)", len(files), MaxFiles)
	}
	total := 0
	for _, f := range files {
		total += len(f.Content)
		if total > MaxBytes {
			return nil, fmt.Errorf("the files have more than %d MiB together", MaxBytes>>20)
		}
		if err := root.add(f); err != nil {
			return nil, err
		}
	}
	root.finish()
	return root, nil
}

func (n *node) add(f File) error {
	clean := path.Clean(f.Path)
	if f.Path == "" || path.IsAbs(f.Path) || clean == "." || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(f.Path, 0) {
		return fmt.Errorf("%q is not a path inside an image", f.Path)
	}
	parts := strings.Split(clean, "/")
	if len(parts) > maxDepth {
		return fmt.Errorf("%q is more than %d directories deep", f.Path, maxDepth)
	}
	for i, part := range parts {
		last := i == len(parts)-1
		if len(part) > maxName {
			return fmt.Errorf("the file name %.40q... is longer than %d bytes", part, maxName)
		}
		child := n.child(part)
		switch {
		case child == nil:
			child = &node{name: part, dir: !last, parent: n}
			n.children = append(n.children, child)
		case last || !child.dir:
			return fmt.Errorf("%q is there twice", f.Path)
		}
		n = child
	}
	n.content = f.Content
	return nil
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// finish sorts the tree and gives every node its identifiers.
func (n *node) finish() {
	sort.Slice(n.children, func(i, j int) bool { return n.children[i].name < n.children[j].name })
	taken, takenJoliet := map[string]bool{}, map[string]bool{}
	for _, c := range n.children {
		c.isoName = isoName(c, taken)
		c.jolietName = jolietName(c, takenJoliet)
		if c.dir {
			c.finish()
		}
	}
}

// isoName makes a unique level 1 identifier. Nothing modern shows it: Rock Ridge and Joliet carry the real name.
func isoName(n *node, taken map[string]bool) []byte {
	base, ext := n.name, ""
	if i := strings.LastIndexByte(n.name, '.'); i > 0 && !n.dir {
		base, ext = n.name[:i], n.name[i+1:]
	}
	base, ext = dCharacters(base, 8), dCharacters(ext, 3)
	for i := 0; ; i++ {
		candidate := base
		if suffix := fmt.Sprint(i); i > 0 {
			candidate = base[:min(len(base), 8-len(suffix))] + suffix
		}
		if !n.dir {
			candidate += "." + ext
		}
		if !taken[candidate] {
			taken[candidate] = true
			if !n.dir {
				candidate += ";1"
			}
			return []byte(candidate)
		}
	}
}

func dCharacters(s string, limit int) string {
	var b strings.Builder
	for _, r := range strings.ToUpper(s) {
		if b.Len() == limit {
			break
		}
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('_')
		}
	}
	if b.Len() == 0 && limit == 8 {
		return "_"
	}
	return b.String()
}

func jolietName(n *node, taken map[string]bool) []byte {
	units := utf16.Encode([]rune(strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0xffff || strings.ContainsRune(`*/:;?\`, r) {
			return '_'
		}
		return r
	}, n.name)))
	for i := 0; ; i++ {
		candidate := units[:min(len(units), maxJoliet)]
		if suffix := utf16.Encode([]rune(fmt.Sprintf("~%d", i))); i > 0 {
			candidate = append(append([]uint16{}, candidate[:min(len(candidate), maxJoliet-len(suffix))]...), suffix...)
		}
		name := ucs2(candidate)
		if !taken[string(name)] {
			taken[string(name)] = true
			if !n.dir {
				name = append(name, 0, ';', 0, '1')
			}
			return name
		}
	}
}

func ucs2(units []uint16) []byte {
	out := make([]byte, 0, 2*len(units)+4)
	for _, u := range units {
		out = append(out, byte(u>>8), byte(u))
	}
	return out
}

func checkLabel(label string) error {
	if label == "" || len(label) > maxISOLabel {
		return fmt.Errorf("a label of %d characters is not possible, the limit is %d", len(label), maxISOLabel)
	}
	for _, r := range label {
		if r < 0x20 || r > 0x7e {
			return errors.New("a label has only printable ASCII characters")
		}
	}
	return nil
}
