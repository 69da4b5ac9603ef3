package image

import (
	"bytes"
	"encoding/binary"
)

const (
	qcow2Magic   = "QFI\xfb"
	vmdkMagic    = "KDMV"
	cowdMagic    = "COWD"
	vmdkText     = "# Disk DescriptorFile"
	vdiMagic     = 0xbeda107f
	vdiMagicAt   = 0x40
	vpcMagic     = "conectix"
	vhdxMagic    = "vhdxfile"
	tarMagic     = "ustar"
	tarMagicAt   = 257
	isoMagic     = "CD001"
	isoMagicAt   = 0x8001
	gzipMagic    = "\x1f\x8b\x08"
	xzMagic      = "\xfd7zXZ\x00"
	zstdMagic    = "\x28\xb5\x2f\xfd"
	zstdSkipMask = 0x184d2a50
)

// Sniff tells an image's format and compression from its first bytes, best HeadSize of them. The format under a
// compression is not known yet: then Format is empty. What has no mark is Raw.
func Sniff(head []byte) (Format, Compression) {
	has := func(at int, magic string) bool {
		return len(head) >= at+len(magic) && string(head[at:at+len(magic)]) == magic
	}
	switch {
	case has(0, gzipMagic):
		return "", GZ
	case has(0, xzMagic):
		return "", XZ
	case has(0, zstdMagic), len(head) >= 4 && binary.LittleEndian.Uint32(head)&^0xf == zstdSkipMask:
		return "", ZST
	case has(0, qcow2Magic):
		return QCOW2, None
	case has(0, vmdkMagic), has(0, cowdMagic), isVMDKText(head):
		return VMDK, None
	case len(head) >= vdiMagicAt+4 && binary.LittleEndian.Uint32(head[vdiMagicAt:]) == vdiMagic:
		return VDI, None
	case has(0, vpcMagic):
		return VPC, None
	case has(0, vhdxMagic):
		return VHDX, None
	case has(tarMagicAt, tarMagic):
		return Tar, None
	case has(isoMagicAt, isoMagic):
		return ISO, None
	}
	return Raw, None
}

// isVMDKText allows comments and empty lines before the mark, as qemu does.
func isVMDKText(head []byte) bool {
	head = head[:min(len(head), 4096)]
	return bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte(vmdkText))
}
