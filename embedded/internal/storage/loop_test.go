package storage

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// A device that is missed stays attached after 'down'; one too many takes a disk away from somebody else.
func TestBelow(t *testing.T) {
	loops := []loop{
		{number: 0, backing: "/var/lib/vk/volumes/a/data", under: -1},
		{number: 1, backing: "/home/user/disk.img", under: -1},
		{number: 2, backing: "/var/lib/kubelet/plugins/dev/x", under: 0},
		{number: 3, backing: "/var/lib/kubelet/plugins/dev/y", under: 1},
		{number: 4, backing: "/var/lib/vk/volumes-of-mine/disk.img", under: -1},
		{number: 5, backing: "/somewhere", under: 2},
	}
	var numbers []int
	for _, l := range below(loops, "/var/lib/vk/volumes/") {
		numbers = append(numbers, l.number)
	}
	if want := []int{0, 2, 5}; !reflect.DeepEqual(numbers, want) {
		t.Errorf("got %v, want %v", numbers, want)
	}
}

// A number that was freed and taken again since the devices were listed is somebody else's.
func TestDetachLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	var numbers []int
	for _, name := range []string{"first", "second"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		number, err := attach(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = detach(attached(t, number)) })
		numbers = append(numbers, number)
	}
	first, second := attached(t, numbers[0]), attached(t, numbers[1])
	stale := first
	stale.number = second.number
	if err := detach(stale); err != nil {
		t.Error(err)
	}
	if now := attached(t, second.number); now != second {
		t.Errorf("another volume's device was detached: %+v", now)
	}
	if err := detach(first); err != nil {
		t.Error(err)
	}
	if now := attached(t, first.number); now == first {
		t.Errorf("%+v is still attached", now)
	}
}

// attached is what a loop device is now, the zero value if it is free.
func attached(t *testing.T, number int) loop {
	t.Helper()
	loops, err := list()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loops {
		if l.number == number {
			return l
		}
	}
	return loop{}
}

// A claim gets at least what it asks for, and a file system has room for it beside its own needs.
func TestSizes(t *testing.T) {
	for _, tc := range []struct {
		request    int64
		filesystem bool
		want       int64
	}{
		{0, false, 1 << 20},
		{1, false, 1 << 20},
		{1 << 20, false, 1 << 20},
		{1<<20 + 1, false, 2 << 20},
		{1, true, 8 << 20},
		{1 << 30, true, 1 << 30},
	} {
		got := roundSize(tc.request, tc.filesystem)
		if got != tc.want {
			t.Errorf("%d: got %d, want %d", tc.request, got, tc.want)
		}
		if file := withOverhead(got, tc.filesystem); tc.filesystem != (file > got) {
			t.Errorf("%d: file of %d", tc.request, file)
		}
	}
}
