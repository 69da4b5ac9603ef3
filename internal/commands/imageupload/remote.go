package imageupload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"virtctl/internal/cdi/image"
	"virtctl/internal/commands/factory"
	"virtctl/internal/commands/problem"
	"virtctl/internal/commands/volume"
)

// openRemote looks at an image that the cluster will fetch itself.
func openRemote(ctx context.Context, f *factory.Factory, opts *Options, address *url.URL) (*source, error) {
	if opts.claim() || opts.Archive != "" || opts.NoCreate {
		return nil, problem.Usagef("an address is fetched by a new DataVolume: write \"virtctl image-upload dv %s --image-path %s\"", opts.Name, address)
	}
	src := &source{name: address.String(), remote: address, length: unknown, info: described{VirtualSize: unknown}}
	switch address.Scheme {
	case "docker", "oci-archive":
		src.info.Format = "container disk"
		return src, nil
	case "http", "https":
	default:
		return nil, problem.Usagef("--image-path %s: addresses begin with http://, https:// or docker://", address)
	}
	// The address may be one that only the cluster reaches, or that asks for credentials: then --size has to say it.
	far := &ranged{ctx: ctx, client: &http.Client{Timeout: 20 * time.Second}, address: address.String()}
	length, err := far.length()
	if err == nil {
		src.info, err = inspect(far, length, false)
		var refused *image.RefusedError
		var corrupt *image.CorruptError
		if errors.As(err, &refused) || errors.As(err, &corrupt) {
			return nil, problem.With(problem.Usage, fmt.Errorf("%s: %w", address, err))
		}
		src.length = length
	}
	if err != nil {
		src.info = described{VirtualSize: unknown}
		f.Streams.Say("%s cannot be looked at from here: %s\n", address, short(err))
	}
	return src, nil
}

// ranged reads a web address from any place, a little of it.
type ranged struct {
	ctx     context.Context
	client  *http.Client
	address string
	// read bounds how much is fetched only to look at it.
	read int64
}

// most is how much of a remote image is fetched only to look at it.
const most = 16 << 20

func (r *ranged) do(method, span string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.ctx, method, r.address, nil)
	if err != nil {
		return nil, err
	}
	if span != "" {
		req.Header.Set("Range", span)
	}
	return r.client.Do(req)
}

func (r *ranged) length() (int64, error) {
	resp, err := r.do(http.MethodHead, "")
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("it answers: %s", resp.Status)
	}
	if resp.ContentLength <= 0 {
		return 0, errors.New("it does not say how long it is")
	}
	return resp.ContentLength, nil
}

// ReadAt fetches a piece.
func (r *ranged) ReadAt(p []byte, off int64) (int, error) {
	if r.read += int64(len(p)); r.read > most {
		return 0, errors.New("too much would have to be read to know the size")
	}
	resp, err := r.do(http.MethodGet, "bytes="+strconv.FormatInt(off, 10)+"-"+strconv.FormatInt(off+int64(len(p))-1, 10))
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return 0, io.EOF
	case resp.StatusCode == http.StatusOK && off == 0, resp.StatusCode == http.StatusPartialContent:
	default:
		return 0, fmt.Errorf("it gives no pieces (%s)", resp.Status)
	}
	n, err := io.ReadFull(resp.Body, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// fetch has the cluster fetch the image.
func (j *job) fetch(ctx context.Context, state volume.State) error {
	from := j.remoteSource()
	switch {
	case state.DV == nil && state.Claim != nil:
		return problem.New(problem.Conflict, "there is a PVC %s/%s already: choose another name", j.namespace, j.options.Name)
	case state.DV != nil && addressOf(state.DV) != j.source.name:
		return problem.New(problem.Conflict, "DataVolume %s/%s exists and is filled from elsewhere (phase %s): choose another name, or remove it with \"virtctl delete dv %s -n %s\"",
			j.namespace, j.options.Name, state.Phase(), j.options.Name, j.namespace)
	case state.DV != nil && state.Filled():
		j.result.AlreadyThere, j.result.Phase = true, state.Phase()
		j.tell("%s is already there: DataVolume %s/%s was filled from it\n", j.source.name, j.namespace, j.options.Name)
		return nil
	case state.DV == nil:
		if err := j.createImport(ctx, from); err != nil {
			return err
		}
	default:
		j.tell("Using existing DataVolume %s/%s\n", j.namespace, j.options.Name)
	}
	j.handed = true
	if j.options.DataSource {
		if err := j.dataSource(ctx); err != nil {
			return err
		}
	}
	if !j.options.Wait {
		return nil
	}
	watching, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go j.warn(watching, stop)
	if _, err := j.follow(watching, func(s volume.State) (bool, error) { return s.Filled(), nil }); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if cause := context.Cause(watching); cause != nil {
			err = cause
		}
		return j.left(err)
	}
	j.tell("Importing %s completed successfully\n", j.source.name)
	return nil
}

func (j *job) remoteSource() *cdiv1.DataVolumeSource {
	address := j.source.name
	if j.source.remote.Scheme == "http" || j.source.remote.Scheme == "https" {
		return &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: address}}
	}
	return &cdiv1.DataVolumeSource{Registry: &cdiv1.DataVolumeSourceRegistry{URL: &address}}
}

func addressOf(dv *cdiv1.DataVolume) string {
	switch source := dv.Spec.Source; {
	case source == nil:
	case source.HTTP != nil:
		return source.HTTP.URL
	case source.Registry != nil && source.Registry.URL != nil:
		return *source.Registry.URL
	}
	return ""
}

func (j *job) createImport(ctx context.Context, from *cdiv1.DataVolumeSource) error {
	need, size := j.source.info.VirtualSize, j.options.size
	if size == nil && need <= 0 {
		return problem.Usagef("when creating a resource, the size must be specified: how large %s gets cannot be seen from here; add --size", j.source.name)
	}
	if size == nil {
		size = volume.RoundUp(need)
	}
	if need > 0 && size.Value() < need {
		return j.tooSmall(need, "--size is "+j.options.Size)
	}
	if j.source.info.Format != "" {
		j.factory.Streams.Say("%s\n", j.describe())
	}
	return j.createFilled(ctx, from, size)
}
