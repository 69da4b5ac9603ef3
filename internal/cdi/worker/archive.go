package worker

import (
	"context"

	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/stream"
)

// archive unpacks a tar file into the claim.
func (im *importer) archive(ctx context.Context) (stream.Result, error) {
	if im.vol.Block() {
		return stream.Result{}, source.Fatalf(reasonInvalid, "an archive can only be unpacked into a claim with the volume mode Filesystem")
	}
	in, err := im.in.open(ctx, source.Start{})
	if err != nil {
		return stream.Result{}, err
	}
	defer in.Close()
	opts := im.opts
	opts.Content, opts.Size = stream.Archive, in.Info().Size
	res, err := stream.Extract(ctx, im.sum.reader(in), im.vol.Dir, opts)
	if err != nil {
		return res, err
	}
	return res, im.sum.check()
}
