// Package cgroup makes and removes the control groups that hold a cluster's processes, on cgroup v1, v2 and both mounted at once.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Hierarchy is one mounted cgroup tree.
type Hierarchy struct {
	Path string
	V2   bool
	// Controllers are the v1 controllers of this tree.
	Controllers []string
}

// Hierarchies lists the mounted trees.
func Hierarchies() ([]Hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	defer f.Close()
	hs, err := parseMountinfo(f)
	if err == nil && len(hs) == 0 {
		err = errors.New("no cgroup file system is mounted: run 'mount -t cgroup2 none /sys/fs/cgroup'")
	}
	return hs, err
}

// parseMountinfo reads the format of proc(5): fields, a dash, then type, source and super options.
func parseMountinfo(r io.Reader) ([]Hierarchy, error) {
	var out []Hierarchy
	seen := map[string]bool{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		left, right, found := strings.Cut(lines.Text(), " - ")
		if !found {
			continue
		}
		fields, kind := strings.Fields(left), strings.Fields(right)
		if len(fields) < 5 || len(kind) < 3 || seen[fields[4]] {
			continue
		}
		switch kind[0] {
		case "cgroup2":
			out = append(out, Hierarchy{Path: fields[4], V2: true})
		case "cgroup":
			out = append(out, Hierarchy{Path: fields[4], Controllers: strings.Split(kind[2], ",")})
		default:
			continue
		}
		seen[fields[4]] = true
	}
	return out, lines.Err()
}

// Tree is a cgroup of the same name in every hierarchy.
type Tree struct {
	hierarchies []Hierarchy
	unified     bool
}

// Open finds the machine's hierarchies.
func Open() (Tree, error) {
	hs, err := Hierarchies()
	if err != nil {
		return Tree{}, err
	}
	unified := !slices.ContainsFunc(hs, func(h Hierarchy) bool { return !h.V2 })
	return Tree{hs, unified}, nil
}

// Unified tells whether the machine has cgroup v2 only.
func (t Tree) Unified() bool { return t.unified }

// Make makes a cgroup and its parents. On v2 every parent hands all its controllers down.
func (t Tree) Make(name string) error {
	for _, h := range t.hierarchies {
		dir := h.Path
		for _, part := range strings.Split(strings.Trim(name, "/"), "/") {
			if h.V2 && t.unified {
				if err := delegate(dir, dir == h.Path); err != nil {
					return err
				}
			}
			child := filepath.Join(dir, part)
			if err := os.Mkdir(child, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make cgroup: %w", err)
			}
			if slices.Contains(h.Controllers, "cpuset") {
				if err := inheritCpuset(dir, child); err != nil {
					return err
				}
			}
			dir = child
		}
	}
	return nil
}

// Delegate hands all controllers of a cgroup down to its children: a kubelet's root needs it on v2.
func (t Tree) Delegate(name string) error {
	if !t.unified {
		return nil
	}
	for _, h := range t.hierarchies {
		if err := delegate(filepath.Join(h.Path, name), false); err != nil {
			return err
		}
	}
	return nil
}

// inheritCpuset fills a new v1 cpuset, which accepts no process while it is empty.
func inheritCpuset(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		if err := os.WriteFile(filepath.Join(child, file), value, 0o644); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return nil
}

// delegate enables every controller for the children of a v2 cgroup. A container's root cgroup has processes of its own, which the
// kernel forbids beside enabled controllers: they move to a leaf.
func delegate(dir string, isRoot bool) error {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	var enable []string
	for _, c := range strings.Fields(string(data)) {
		enable = append(enable, "+"+c)
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	err = os.WriteFile(control, []byte(strings.Join(enable, " ")), 0o644)
	if errors.Is(err, syscall.EBUSY) && isRoot {
		if err := moveAll(dir, filepath.Join(dir, "init")); err != nil {
			return err
		}
		err = os.WriteFile(control, []byte(strings.Join(enable, " ")), 0o644)
	}
	if err != nil {
		return fmt.Errorf("hand cgroup controllers down: %w", err)
	}
	return nil
}

func moveAll(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	pids, err := procs(from)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
		if err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EINVAL) { // ended, or a kernel thread
			return fmt.Errorf("move process %d to cgroup %s: %w", pid, to, err)
		}
	}
	return nil
}

// Add moves a process into a cgroup.
func (t Tree) Add(name string, pid int) error {
	for _, h := range t.hierarchies {
		if err := os.WriteFile(filepath.Join(h.Path, name, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("move process %d to cgroup: %w", pid, err)
		}
	}
	return nil
}

func procs(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cgroup: %w", err)
	}
	var out []int
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out, nil
}

// Remove removes a cgroup and everything below it; its processes must have ended.
func (t Tree) Remove(name string) error {
	var errs []error
	for _, h := range t.hierarchies {
		errs = append(errs, walk(filepath.Join(h.Path, name), func(dir string) error {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove cgroup: %w", err)
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// walk visits directories from the deepest up.
func walk(root string, visit func(dir string) error) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(root, e.Name()), visit); err != nil {
				return err
			}
		}
	}
	return visit(root)
}
