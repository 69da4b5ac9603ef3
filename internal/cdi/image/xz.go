package image

import (
	"bytes"
	"encoding/binary"
	"io"
)

const (
	xzFooter   = 12
	xzMaxIndex = 1 << 20
)

// xzSizeHint adds up the index at the end of a file with one stream.
func xzSizeHint(r io.ReaderAt, size int64) int64 {
	foot, err := readHead(r, size-xzFooter, xzFooter)
	if err != nil || len(foot) < xzFooter || string(foot[10:]) != "YZ" {
		return 0
	}
	n := (int64(binary.LittleEndian.Uint32(foot[4:])) + 1) * 4
	if n > xzMaxIndex || n > size-xzFooter {
		return 0
	}
	b, err := readHead(r, size-xzFooter-n, int(n))
	if err != nil || int64(len(b)) < n || b[0] != 0 {
		return 0
	}
	rd := bytes.NewReader(b[1:])
	records, err := binary.ReadUvarint(rd)
	if err != nil {
		return 0
	}
	var total uint64
	for range min(records, xzMaxIndex) {
		if _, err := binary.ReadUvarint(rd); err != nil {
			return 0
		}
		u, err := binary.ReadUvarint(rd)
		if err != nil || u > uint64(maxVirtualSize)-total {
			return 0
		}
		total += u
	}
	return int64(total)
}
