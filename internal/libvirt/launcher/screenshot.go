package launcher

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"

	"virtctl/internal/libvirt/wire"
)

// maxPixels bounds a screen: 8K UHD.
const maxPixels = 7680 * 4320

func (l *Launcher) screenshot(ctx context.Context) (wire.Blob, error) {
	s, err := l.manager.get(ctx)
	if err != nil {
		return wire.Blob{}, err
	}
	data, mediaType, err := s.Screenshot()
	if err != nil {
		return wire.Blob{}, err
	}
	if mediaType != "image/png" {
		if data, err = ppmToPNG(data); err != nil {
			return wire.Blob{}, err
		}
	}
	return wire.Blob{MediaType: "image/png", Data: data}, nil
}

// ppmToPNG converts QEMU's screen dumps (binary portable pixmaps, 8 bits a sample).
func ppmToPNG(data []byte) ([]byte, error) {
	r := bufio.NewReader(bytes.NewReader(data))
	var magic string
	var width, height, maximum int
	if _, err := fmt.Fscanf(r, "%s\n%d %d\n%d", &magic, &width, &height, &maximum); err != nil || magic != "P6" || maximum != 255 {
		return nil, errors.New("QEMU's screenshot is not a pixmap")
	}
	if _, err := r.ReadByte(); err != nil {
		return nil, errors.New("QEMU's screenshot is cut short")
	}
	if width <= 0 || height <= 0 || width > maxPixels || height > maxPixels || width*height > maxPixels {
		return nil, fmt.Errorf("a screen of %d x %d pixels is too large for a screenshot", width, height)
	}
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	row := make([]byte, 3*width)
	for y := range height {
		if _, err := io.ReadFull(r, row); err != nil {
			return nil, errors.New("QEMU's screenshot is cut short")
		}
		line := picture.Pix[y*picture.Stride:]
		for x := range width {
			copy(line[4*x:], row[3*x:3*x+3])
			line[4*x+3] = 0xff
		}
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(&out, picture); err != nil {
		return nil, fmt.Errorf("convert the screenshot: %w", err)
	}
	return out.Bytes(), nil
}
