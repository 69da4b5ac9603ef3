package upload

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"virtctl/internal/cdi/names"
	"virtctl/internal/cdi/sparse/sparsetest"
)

// scattered is a disk of data and zeros; some zeros are blocks inside a cluster with data, and its end is odd.
func scattered() []byte {
	const size = 24<<20 + 321
	rnd := rand.New(rand.NewSource(9))
	disk := make([]byte, size)
	for off := 0; off < size; off += 4096 * (1 + rnd.Intn(64)) {
		rnd.Read(disk[off:min(size, off+4096*rnd.Intn(24))])
	}
	rnd.Read(disk[:8<<20])
	disk[size-1] = 7
	clear(disk[16<<20 : 22<<20])
	return disk
}

// The disk is the same one, and takes as little space, as when all of it is sent.
func TestWithoutZeros(t *testing.T) {
	disk := scattered()
	packed := sparsetest.Packed(t, disk)
	stored := map[string]int64{}
	for name, content := range map[string][]byte{"raw": disk, "without zeros": packed} {
		g := newTarget(t)
		g.config.Options.Available = int64(len(disk)+511) / 512 * 512
		g.start()
		r := g.send(http.MethodPost, "/v1beta1/upload-async", bytes.NewReader(content), names.HeaderIdentity, "mine", names.HeaderLength, fmt.Sprint(len(content)), names.HeaderOffset, "0")
		if r.StatusCode != http.StatusOK || r.Header.Get(names.HeaderDigest) != digest(content) {
			t.Fatalf("%s: %s %v %s", name, r.Status, r.Header, r.text)
		}
		if res := g.mustEnd(); res.VirtualSize != g.config.Options.Available || res.SourceBytes != int64(len(content)) {
			t.Errorf("%s: %+v", name, res)
		}
		g.disk(append(bytes.Clone(disk), make([]byte, 512-len(disk)%512)...))
		var st syscall.Stat_t
		if err := syscall.Stat(g.config.Volume.Disk, &st); err != nil {
			t.Fatal(err)
		}
		stored[name] = st.Blocks
	}
	if stored["raw"] != stored["without zeros"] {
		t.Errorf("the disk takes %v blocks", stored)
	}
}

// A disk that does not fit is refused as the file itself would be, though what is sent would fit.
func TestWithoutZerosTooLarge(t *testing.T) {
	disk := scattered()
	g := newTarget(t)
	g.config.Options.Available = int64(len(disk)) - 1
	g.start()
	r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(sparsetest.Packed(t, disk)))
	if r.StatusCode != http.StatusBadRequest || !strings.Contains(r.text, "effective image size is larger than the reported available storage") {
		t.Fatalf("%s %s", r.Status, r.text)
	}
}

// The client and the pod are killed again and again: what arrived is not sent again.
func TestWithoutZerosGoesOn(t *testing.T) {
	disk := scattered()
	packed := sparsetest.Packed(t, disk)
	length := fmt.Sprint(len(packed))
	g := newTarget(t).start()
	rnd := rand.New(rand.NewSource(2))
	offset := int64(0)
	for range 6 {
		n := 1<<20 + rnd.Int63n(1<<20)
		if r, err := g.try(http.MethodPost, "/v1beta1/upload", &cut{bytes.NewReader(packed[offset:]), n}, names.HeaderIdentity, "mine", names.HeaderLength, length,
			names.HeaderOffset, fmt.Sprint(offset)); err == nil {
			t.Fatalf("a cut upload: %s %s", r.Status, r.text)
		}
		// The server reads what was sent before the cut; a part of a table and what the client had not handed on yet are all that may be missing.
		for g.offset() < offset+n-(128<<10) {
		}
		g.stop(errors.New("terminated"))
		<-g.results
		g.start()
		if next := g.offset(); next > offset+n {
			t.Fatalf("%d bytes are safe of %d", next, offset+n)
		}
		offset = g.offset()
	}
	r := g.send(http.MethodPost, "/v1beta1/upload", bytes.NewReader(packed[offset:]), names.HeaderIdentity, "mine", names.HeaderLength, length, names.HeaderOffset, fmt.Sprint(offset))
	if r.StatusCode != http.StatusOK || r.Header.Get(names.HeaderDigest) != digest(packed) {
		t.Fatalf("%s %v %s", r.Status, r.Header, r.text)
	}
	g.mustEnd()
	g.disk(append(disk, make([]byte, 512-len(disk)%512)...))
}
