package image

import (
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// VMDKHeader is the header of a sparse VMDK extent. All offsets are in bytes.
type VMDKHeader struct {
	Size             int64 // of the disk
	GrainSize        int64
	GTEntries        int64 // entries of one grain table, 4 bytes each
	GDOffset         int64 // of the grain directory; VMDKGDAtEnd when the footer says it
	Overhead         int64 // where grains begin
	DescriptorOffset int64
	DescriptorSize   int64
	Compressed       bool // grains are deflated
	Markers          bool // grains and tables have markers before them: the image can be read in order
}

// VMDKGDAtEnd is the GDOffset of images that were written in one go: header and directory are repeated at the end.
const VMDKGDAtEnd = int64(-1)

const (
	vmdkHeaderSize     = 79
	vmdkFlagCompressed = 1 << 16
	vmdkFlagMarkers    = 1 << 17
	vmdkMaxDescriptor  = 1 << 20
	vmdkNoParent       = "ffffffff"
)

// ParseVMDK reads a sparse extent's header. Descriptors that name other files are refused.
func ParseVMDK(head []byte) (VMDKHeader, error) {
	le := binary.LittleEndian
	switch {
	case isVMDKText(head):
		return VMDKHeader{}, &RefusedError{Format: VMDK, Reason: Extents, Detail: vmdkExtents(head)}
	case len(head) >= 4 && string(head[:4]) == cowdMagic:
		return VMDKHeader{}, &RefusedError{Format: VMDK, Reason: Unsupported, Detail: "an extent of an ESX host"}
	case len(head) < vmdkHeaderSize || string(head[:4]) != vmdkMagic:
		return VMDKHeader{}, corrupt(VMDK, "its header is cut off")
	}
	if v := le.Uint32(head[4:]); v < 1 || v > 3 {
		return VMDKHeader{}, &RefusedError{Format: VMDK, Reason: Unsupported, Detail: fmt.Sprintf("version %d", v)}
	}
	if string(head[73:77]) != "\n \r\n" {
		return VMDKHeader{}, corrupt(VMDK, "it was transferred as text")
	}
	flags := le.Uint32(head[8:])
	h := VMDKHeader{
		Compressed: flags&vmdkFlagCompressed != 0, Markers: flags&vmdkFlagMarkers != 0,
		GTEntries: int64(le.Uint32(head[44:])),
	}
	if algo := le.Uint16(head[77:]); h.Compressed && algo != 1 {
		return h, &RefusedError{Format: VMDK, Reason: Unsupported, Detail: fmt.Sprintf("compression %d", algo)}
	}
	return h, h.layout(head)
}

func (h *VMDKHeader) layout(head []byte) error {
	le := binary.LittleEndian
	fields := []struct {
		at int
		to *int64
	}{{12, &h.Size}, {20, &h.GrainSize}, {28, &h.DescriptorOffset}, {36, &h.DescriptorSize}, {56, &h.GDOffset}, {64, &h.Overhead}}
	for _, f := range fields {
		v := le.Uint64(head[f.at:])
		if f.to == &h.GDOffset && v == ^uint64(0) {
			*f.to = VMDKGDAtEnd
			continue
		}
		if v > uint64(maxVirtualSize/SectorSize) {
			return corrupt(VMDK, "a header field of %d sectors", v)
		}
		*f.to = int64(v) * SectorSize
	}
	switch {
	case h.GrainSize < 8*SectorSize || h.GrainSize > 2<<20 || h.GrainSize&(h.GrainSize-1) != 0:
		return corrupt(VMDK, "grain size %d", h.GrainSize)
	case h.GTEntries < 1 || h.GTEntries > 4096:
		return corrupt(VMDK, "%d entries in a grain table", h.GTEntries)
	case h.DescriptorSize > vmdkMaxDescriptor:
		return corrupt(VMDK, "a descriptor of %d bytes", h.DescriptorSize)
	}
	return nil
}

var (
	vmdkParent = regexp.MustCompile(`(?mi)^\s*parentCID\s*=\s*"?([0-9a-f]+)`)
	vmdkHint   = regexp.MustCompile(`(?mi)^\s*parentFileNameHint\s*=\s*"([^"\n]*)"`)
	vmdkType   = regexp.MustCompile(`(?mi)^\s*createType\s*=\s*"([A-Za-z0-9]+)"`)
	vmdkExtent = regexp.MustCompile(`(?mi)^\s*(?:RW|RDONLY|NOACCESS)\s+([0-9]+)\s+([A-Z]+)(?:\s+"([^"\n]*)")?`)
)

// CheckVMDKDescriptor reads the text inside a sparse extent and refuses images of several files. It returns the createType.
func CheckVMDKDescriptor(text []byte) (string, error) {
	s := strings.TrimRight(string(text), "\x00")
	kind := ""
	if m := vmdkType.FindStringSubmatch(s); m != nil {
		kind = m[1]
	}
	if m := vmdkParent.FindStringSubmatch(s); m != nil && !strings.EqualFold(m[1], vmdkNoParent) {
		name := ""
		if h := vmdkHint.FindStringSubmatch(s); h != nil {
			name = quote([]byte(h[1]))
		}
		return kind, &RefusedError{Format: VMDK, Reason: BackingFile, Detail: name}
	}
	extents := vmdkExtent.FindAllStringSubmatch(s, 3)
	if len(extents) > 1 || len(extents) == 1 && !strings.EqualFold(extents[0][2], "SPARSE") {
		return kind, &RefusedError{Format: VMDK, Reason: Extents, Detail: vmdkExtents(text)}
	}
	return kind, nil
}

// vmdkExtents names the first files that a descriptor asks for.
func vmdkExtents(text []byte) string {
	var names []string
	for _, m := range vmdkExtent.FindAllSubmatch(text, 3) {
		if len(m[3]) > 0 {
			names = append(names, quote(m[3]))
		}
	}
	return strings.Join(names, ", ")
}

func describeVMDK(r io.ReaderAt, head []byte, info Info) (Info, error) {
	h, err := ParseVMDK(head)
	if err != nil {
		return info, err
	}
	if h.DescriptorOffset > 0 && h.DescriptorSize > 0 {
		text, err := readExact(r, VMDK, h.DescriptorOffset, int(h.DescriptorSize))
		if err != nil {
			return info, err
		}
		if info.Subformat, err = CheckVMDKDescriptor(text); err != nil {
			return info, err
		}
	}
	info.VirtualSize, info.ClusterSize = h.Size, h.GrainSize
	return info, nil
}
