package image

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// VPCFooterSize is the length of a VHD footer, which fixed images have at their end only.
	VPCFooterSize = 512
	// VPCDynamicSize is the length of a dynamic VHD's second header.
	VPCDynamicSize = 1024

	vpcFixed, vpcDynamic, vpcDiff = 2, 3, 4
	vpcDynamicMagic               = "cxsparse"
	vpcMaxCHS                     = 65535 * 16 * 255
)

// VPCFooter is the part of a VHD footer that reading the image needs.
type VPCFooter struct {
	Size          int64 // of the disk, bytes
	CurrentSize   int64 // as the footer says, before old creators' geometry is taken into account
	Fixed         bool
	DynamicOffset int64 // of the dynamic header
}

// VPCDynamicHeader is the second header of a dynamic VHD.
type VPCDynamicHeader struct {
	TableOffset int64
	Entries     int64 // in the block table, 4 bytes each
	BlockSize   int64
}

// ParseVPCFooter reads a footer, or its copy at the head of a dynamic image.
func ParseVPCFooter(b []byte) (VPCFooter, error) {
	be := binary.BigEndian
	if len(b) < VPCFooterSize || string(b[:8]) != vpcMagic {
		return VPCFooter{}, corrupt(VPC, "its footer is cut off")
	}
	if sum := vpcChecksum(b[:VPCFooterSize], 64); sum != be.Uint32(b[64:]) {
		return VPCFooter{}, corrupt(VPC, "its footer's checksum is wrong")
	}
	size, kind, dyn := be.Uint64(b[48:]), be.Uint32(b[60:]), be.Uint64(b[16:])
	if size > uint64(maxVirtualSize) {
		return VPCFooter{}, corrupt(VPC, "virtual size %d", size)
	}
	f := VPCFooter{CurrentSize: int64(size), Size: Align(int64(size)), Fixed: kind == vpcFixed}
	switch kind {
	case vpcFixed:
		return f, nil
	case vpcDiff:
		return f, &RefusedError{Format: VPC, Reason: BackingFile, Detail: "it is the difference to a parent image"}
	case vpcDynamic:
	default:
		return f, &RefusedError{Format: VPC, Reason: Unsupported, Detail: fmt.Sprintf("disk type %d", kind)}
	}
	if dyn > uint64(maxVirtualSize) {
		return f, corrupt(VPC, "its dynamic header is at offset %d", dyn)
	}
	f.DynamicOffset = int64(dyn)
	if chs := vpcGeometry(b); chs > 0 {
		f.Size = chs
	}
	return f, nil
}

// vpcGeometry is the disk's size where cylinders, heads and sectors rule: Virtual PC and qemu without force_size round
// the size to a geometry, and the guest saw that one. 0 means the footer's size rules.
func vpcGeometry(b []byte) int64 {
	switch string(b[28:32]) {
	case "win ", "qem2", "d2v ", "CTXS", "tap\x00", "wa\x00\x00":
		return 0
	}
	sectors := int64(binary.BigEndian.Uint16(b[56:])) * int64(b[58]) * int64(b[59])
	if sectors >= vpcMaxCHS {
		return 0
	}
	return sectors * SectorSize
}

// ParseVPCFixed tells whether tail, the last 512 bytes of a file of size bytes, is the footer of a fixed VHD that spans exactly the rest.
func ParseVPCFixed(tail []byte, size int64) (VPCFooter, bool) {
	f, err := ParseVPCFooter(tail)
	if err != nil || !f.Fixed || f.CurrentSize != size-VPCFooterSize {
		return VPCFooter{}, false
	}
	return f, true
}

// ParseVPCDynamic reads the header at the footer's DynamicOffset.
func ParseVPCDynamic(b []byte, f VPCFooter) (VPCDynamicHeader, error) {
	be := binary.BigEndian
	if len(b) < VPCDynamicSize || string(b[:8]) != vpcDynamicMagic {
		return VPCDynamicHeader{}, corrupt(VPC, "its dynamic header is missing")
	}
	if sum := vpcChecksum(b[:VPCDynamicSize], 36); sum != be.Uint32(b[36:]) {
		return VPCDynamicHeader{}, corrupt(VPC, "its dynamic header's checksum is wrong")
	}
	off := be.Uint64(b[16:])
	h := VPCDynamicHeader{Entries: int64(be.Uint32(b[28:])), BlockSize: int64(be.Uint32(b[32:]))}
	switch {
	case off > uint64(maxVirtualSize) || off%SectorSize != 0:
		return h, corrupt(VPC, "its block table is at offset %d", off)
	case h.BlockSize < SectorSize || h.BlockSize&(h.BlockSize-1) != 0 || h.BlockSize > 1<<28:
		return h, corrupt(VPC, "block size %d", h.BlockSize)
	case h.Entries*h.BlockSize < f.Size:
		return h, corrupt(VPC, "%d blocks for %d bytes", h.Entries, f.Size)
	}
	h.TableOffset = int64(off)
	return h, nil
}

// vpcChecksum is the one's complement of the sum of all bytes but the checksum's own.
func vpcChecksum(b []byte, at int) uint32 {
	var sum uint32
	for i, c := range b {
		if i < at || i >= at+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}

func describeVPC(r io.ReaderAt, head []byte, info Info) (Info, error) {
	f, err := ParseVPCFooter(head)
	if err != nil {
		return info, err
	}
	if f.Fixed {
		return info, corrupt(VPC, "a fixed image has its footer at the end")
	}
	dyn, err := readExact(r, VPC, f.DynamicOffset, VPCDynamicSize)
	if err != nil {
		return info, err
	}
	h, err := ParseVPCDynamic(dyn, f)
	if err != nil {
		return info, err
	}
	info.VirtualSize, info.ClusterSize, info.Subformat = f.Size, h.BlockSize, "dynamic"
	return info, nil
}
