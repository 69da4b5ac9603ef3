package volume_test

import (
	"slices"
	"testing"

	"virtctl/internal/commands/volume"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 30: "1.0 GiB", 5 << 40: "5.0 TiB",
	} {
		if got := volume.Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// A volume that is a byte too small fails after the whole upload: sizes are rounded up.
func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{1: "1Mi", 1 << 20: "1Mi", 1<<20 + 1: "2Mi", 10 << 30: "10Gi"} {
		if got := volume.RoundUp(n).String(); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if got := volume.WithOverhead(94, 0.06); got != 100 && got != 101 {
		t.Errorf("94 bytes and 6%%: %d", got)
	}
}

// Machines may be called like kinds: only what names a disk is one.
func TestNamed(t *testing.T) {
	for _, test := range []struct {
		args []string
		kind string
		want []string
		ok   bool
	}{
		{[]string{"dv", "a", "b"}, "dv", []string{"a", "b"}, true},
		{[]string{"dv/a", "dv/b"}, "dv", []string{"a", "b"}, true},
		{[]string{"pvc/a"}, "pvc", []string{"a"}, true},
		{[]string{"dv"}, "", nil, false},
		{[]string{"web", "dv"}, "", nil, false},
		{[]string{"vm/web"}, "", nil, false},
		{nil, "", nil, false},
	} {
		kind, got, ok := volume.Named(test.args)
		if kind != test.kind || !slices.Equal(got, test.want) || ok != test.ok {
			t.Errorf("%v: %s %v %v", test.args, kind, got, ok)
		}
	}
}
