package storage

import (
	"reflect"
	"testing"
)

// A device that is missed stays attached after 'down'; one too many takes a disk away from somebody else.
func TestBelow(t *testing.T) {
	loops := []loop{
		{0, "/var/lib/vk/volumes/a/data", -1},
		{1, "/home/user/disk.img", -1},
		{2, "/var/lib/kubelet/plugins/dev/x", 0},
		{3, "/var/lib/kubelet/plugins/dev/y", 1},
		{4, "/var/lib/vk/volumes-of-mine/disk.img", -1},
		{5, "/somewhere", 2},
	}
	var numbers []int
	for _, l := range below(loops, "/var/lib/vk/volumes/") {
		numbers = append(numbers, l.number)
	}
	if want := []int{0, 2, 5}; !reflect.DeepEqual(numbers, want) {
		t.Errorf("got %v, want %v", numbers, want)
	}
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
