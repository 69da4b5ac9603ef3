package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const hybrid = `22 1 0:21 / /sys rw - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
33 30 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
34 30 0:29 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw
broken line
`

// A hierarchy that is missed leaves pods without limits, or a cgroup behind.
func TestParseMountinfo(t *testing.T) {
	got, err := parseMountinfo(strings.NewReader(hybrid))
	if err != nil {
		t.Fatal(err)
	}
	want := []Hierarchy{
		{Path: "/sys/fs/cgroup/cpu,cpuacct", Controllers: []string{"rw", "cpu", "cpuacct"}},
		{Path: "/sys/fs/cgroup/cpuset", Controllers: []string{"rw", "cpuset"}},
		{Path: "/sys/fs/cgroup/unified", V2: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add(hybrid)
	f.Fuzz(func(t *testing.T, s string) {
		hs, _ := parseMountinfo(strings.NewReader(s))
		for _, h := range hs {
			if h.Path == "" {
				t.Error("a hierarchy without a path")
			}
		}
	})
}

// On v2 a parent that hands no controllers down leaves the kubelet without cpu and memory limits.
func TestMakeUnified(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"", "vk", "vk/node01"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree := Tree{[]Hierarchy{{Path: root, V2: true}}, true}
	if err := tree.Make("/vk/node01/system"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", "vk", "vk/node01"} {
		got, err := os.ReadFile(filepath.Join(root, dir, "cgroup.subtree_control"))
		if err != nil || string(got) != "+cpu +memory +pids" {
			t.Errorf("%q hands down %q, %v", dir, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "vk/node01/system/cgroup.subtree_control")); err == nil {
		t.Error("the leaf that holds processes hands controllers down: the kernel refuses that")
	}
}

// An empty v1 cpuset accepts no process.
func TestMakeCpuset(t *testing.T) {
	root := t.TempDir()
	for file, value := range map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree := Tree{[]Hierarchy{{Path: root, Controllers: []string{"rw", "cpuset"}}}, false}
	if err := tree.Make("/vk/node01"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "vk/node01/cpuset.cpus"))
	if err != nil || string(got) != "0-1\n" {
		t.Errorf("cpus %q, %v", got, err)
	}
}
