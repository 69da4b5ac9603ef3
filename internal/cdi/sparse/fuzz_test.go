package sparse

import (
	"encoding/binary"
	"testing"

	"virtctl/internal/cdi/image"
)

// place is a disk on which every byte of a cluster is the same and tells where it lies.
type place struct{ size int64 }

func (d place) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = byte((off+int64(i))/cluster*7 + 1)
	}
	return len(p), nil
}

// Whatever the disk's size and wherever its data lies: every cluster of the disk is found through the tables with its own data, every
// cluster of the image is used once and counted once.
func FuzzLayout(f *testing.F) {
	f.Add(uint64(1<<30), []byte{0, 1, 2, 3, 0, 0, 0, 9})
	f.Add(uint64(5<<40+12345), []byte{0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	f.Add(uint64(1), []byte{})
	f.Add(uint64(513<<20), []byte{0, 0, 0x20, 0, 0, 0, 0x1f, 0xff})
	f.Fuzz(func(t *testing.T, size uint64, at []byte) {
		d := place{size: int64(size % (1 << 42))}
		m := newBlocks(d.size)
		clusters := ceil(d.size, cluster)
		want := map[int64]bool{}
		at = at[:min(len(at), 64)]
		for ; len(at) >= 4 && clusters > 0; at = at[4:] {
			n := int64(binary.BigEndian.Uint32(at)) % clusters
			for k := n; k < min(clusters, n+int64(at[3]%70)); k++ {
				m.set(k)
				want[k] = true
			}
		}
		i := newImage(d, m)
		head := make([]byte, cluster)
		if _, err := i.ReadAt(head, 0); err != nil {
			t.Fatal(err)
		}
		h, err := image.ParseQCOW2(head)
		if err != nil || h.Size != image.Align(d.size) || h.ClusterSize() != cluster {
			t.Fatalf("%+v, %v", h, err)
		}
		used := map[int64]bool{0: true}
		use := func(off, n int64) {
			for c := off / cluster; c < (off+n)/cluster; c++ {
				if off%cluster != 0 || used[c] || c >= i.clusters {
					t.Fatalf("cluster %d of %d is used twice or not there", c, i.clusters)
				}
				used[c] = true
			}
		}
		use(h.L1Offset, ceil(int64(h.L1Entries)*8, cluster)*cluster)
		use(h.RefcountOffset, h.RefcountBytes)
		counts := entries(t, i, h.RefcountOffset, h.RefcountBytes/8)
		for _, off := range counts {
			if off != 0 {
				use(int64(off), cluster)
			}
		}
		found := 0
		for g, l2 := range entries(t, i, h.L1Offset, int64(h.L1Entries)) {
			if l2 == 0 {
				continue
			}
			use(int64(l2&^copied), cluster)
			for k, e := range entries(t, i, int64(l2&^copied), perTable) {
				if e == 0 {
					continue
				}
				n := int64(g)*perTable + int64(k)
				found++
				use(int64(e&^copied), cluster)
				b := make([]byte, 2)
				if _, err := i.ReadAt(b[:1], int64(e&^copied)); err != nil || !want[n] || b[0] != byte(n*7+1) {
					t.Fatalf("cluster %d of the disk, wanted %v, begins with %d (%v)", n, want[n], b[0], err)
				}
				end := min(cluster, d.size-n*cluster)
				if _, err := i.ReadAt(b, int64(e&^copied)+end-1); end < cluster && (err != nil || b[0] != byte(n*7+1) || b[1] != 0) {
					t.Fatalf("the disk's end reads %v (%v)", b, err)
				}
			}
		}
		if found != len(want) || int64(len(used)) != i.clusters {
			t.Fatalf("%d of %d clusters of the disk, %d of %d of the image", found, len(want), len(used), i.clusters)
		}
		for n, off := range counts {
			if off == 0 {
				continue
			}
			b := make([]byte, cluster)
			if _, err := i.ReadAt(b, int64(off)); err != nil {
				t.Fatal(err)
			}
			for k := range perRefcounts {
				if got := binary.BigEndian.Uint16(b[2*k:]) == 1; got != (int64(n*perRefcounts+k) < i.clusters) {
					t.Fatalf("the count of cluster %d of %d is %v", n*perRefcounts+k, i.clusters, got)
				}
			}
		}
	})
}

func entries(t *testing.T, i *Image, off, n int64) []uint64 {
	t.Helper()
	b := make([]byte, n*8)
	if _, err := i.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	out := make([]uint64, n)
	for k := range out {
		out[k] = binary.BigEndian.Uint64(b[8*k:])
	}
	return out
}
