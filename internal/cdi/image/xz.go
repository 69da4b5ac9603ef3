package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

var errXZDictionary = errors.New("the dictionary is larger than 64 MiB")

const (
	xzStreamHeader = 12
	xzFooter       = 12
	xzFilterLZMA2  = 0x21
	xzMaxIndex     = 1 << 20
)

// limitXZ refuses a stream whose first block asks for a dictionary that is too large, before the decoder would allocate it.
// Presets -0 to -9 stay within the limit, and xz gives all blocks of a file the same.
func limitXZ(r io.Reader) (io.Reader, error) {
	head := make([]byte, xzStreamHeader+1024)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	if xzDictionary(head) > MaxXZDictionary {
		return nil, errXZDictionary
	}
	return io.MultiReader(bytes.NewReader(head), r), nil
}

// xzDictionary reads the dictionary size of the first block's LZMA2 filter, 0 when there is none to be seen.
func xzDictionary(head []byte) int64 {
	if len(head) <= xzStreamHeader || head[xzStreamHeader] == 0 {
		return 0
	}
	b := head[xzStreamHeader:]
	b = b[:min(len(b), (int(b[0])+1)*4)]
	if len(b) < 2 {
		return 0
	}
	flags := b[1]
	b = b[2:]
	for _, bit := range []byte{0x40, 0x80} { // compressed and uncompressed size
		if flags&bit != 0 {
			_, n := binary.Uvarint(b)
			if n <= 0 {
				return 0
			}
			b = b[n:]
		}
	}
	for range int(flags&3) + 1 {
		id, n := binary.Uvarint(b)
		if n <= 0 {
			return 0
		}
		size, m := binary.Uvarint(b[n:])
		if m <= 0 || size > uint64(len(b)-n-m) {
			return 0
		}
		props := b[n+m : n+m+int(size)]
		if id == xzFilterLZMA2 && len(props) == 1 {
			bits := int64(props[0] & 0x3f)
			return (2 | bits&1) << (bits/2 + 11)
		}
		b = b[n+m+int(size):]
	}
	return 0
}

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
