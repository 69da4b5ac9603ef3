package stream

import (
	"errors"
	"fmt"
	"path/filepath"

	"virtctl/internal/cdi/image"
)

// decoder chooses the decoder for a format by the image's head, and prepares the target. Only then is anything changed.
func (r *run) decoder(format image.Format, head []byte) error {
	var err error
	size, plain := int64(0), false
	switch format {
	case image.Raw, image.ISO, spooled:
		plain = true
		r.dec = &rawDecoder{src: r.src, eng: r.eng, kind: format, size: image.Unknown}
		size = r.rawSize()
	case sparseFormat:
		var d *cloneDecoder
		if d, err = openClone(r.src, r.eng); err == nil {
			r.dec, size = d, d.size
		}
	case image.VMDK:
		if r.dec, err = r.openVMDK(head); err == nil {
			size = r.dec.virtual()
		}
	case image.QCOW2, image.VDI, image.VPC, image.VHDX:
		d := r.newMapped()
		if err = openMapped(format, head, d); err == nil {
			r.dec, size = d, d.virtual()
		}
	default:
		err = fmt.Errorf("a %s file is no disk image; for an archive use the content type archive", format)
	}
	var ns *NeedsSpoolError
	if errors.As(err, &ns) {
		ns.Rest = r.rest()
	}
	if err != nil {
		return err
	}
	if err := r.out.begin(size); err != nil || plain {
		return err
	}
	return r.out.fill(0, size)
}

// newMapped makes a decoder that can put things aside beside the target, if that is a file.
func (r *run) newMapped() *mapped {
	d := &mapped{src: r.src, eng: r.eng}
	dir := r.opts.SpillDir
	if dir == "" && !r.out.block {
		dir = filepath.Dir(r.out.path)
	}
	if dir != "" {
		d.early.path = filepath.Join(dir, "."+filepath.Base(r.out.path)+".early")
	}
	r.early = &d.early
	return d
}

// openMapped reads a header and announces the first table.
func openMapped(format image.Format, head []byte, d *mapped) error {
	switch format {
	case image.QCOW2:
		h, err := image.ParseQCOW2(head)
		if err != nil {
			return err
		}
		return newQCOW2(h, d)
	case image.VDI:
		h, err := image.ParseVDI(head)
		if err != nil {
			return err
		}
		return newBlocks(newVDI(h), d)
	case image.VHDX:
		return openVHDX(d.src, d)
	default:
		return openVPC(head, d)
	}
}

func openVPC(head []byte, d *mapped) error {
	f, err := image.ParseVPCFooter(head)
	if err != nil {
		return err
	}
	if f.Fixed {
		return &image.CorruptError{Format: image.VPC, Detail: "a fixed image has its footer at the end"}
	}
	if f.DynamicOffset+image.VPCDynamicSize > int64(len(head)) {
		return &NeedsSpoolError{Format: image.VPC, Reason: "its second header is far from its first"}
	}
	h, err := image.ParseVPCDynamic(head[f.DynamicOffset:], f)
	if err != nil {
		return err
	}
	return newBlocks(newVPC(f, h), d)
}

// reopen goes on from a checkpoint.
func (r *run) reopen() error {
	c := r.opts.Resume
	switch c.Format {
	case image.Raw, image.ISO, spooled:
		r.dec = &rawDecoder{src: r.src, eng: r.eng, kind: c.Format, pos: c.Offset, size: image.Unknown}
	case grains:
		d, err := restoreGrains(c, r.src, r.eng)
		if err != nil {
			return err
		}
		r.dec = d
	case image.QCOW2, image.VDI, image.VPC, image.VMDK, image.VHDX:
		d, err := r.restoreMapped(c)
		if err != nil {
			return err
		}
		r.dec = d
	case sparseFormat:
		r.dec = &cloneDecoder{src: r.src, eng: r.eng, pos: c.Offset, size: c.VirtualSize, done: string(c.State) == "true"}
	default:
		return fmt.Errorf("a checkpoint of format %q cannot be resumed; start again", c.Format)
	}
	return r.out.resume(c)
}
