package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// PushOptions change how Push works; the zero value is good.
type PushOptions struct {
	Insecure  bool           // plain HTTP, or HTTPS with any certificate
	Tag       string         // instead of each image's own
	Keychain  authn.Keychain // who we are to the registry; the user's Docker configuration if nil
	Progress  io.Writer      // one line per image, if not nil
	Transport http.RoundTripper
}

// Pushed is one image that the registry now has.
type Pushed struct {
	Ref    string
	Digest string
}

// Push sends the images of a tar to registry, which may have a path ("harbor.example.org/virt"): localhost/virtctl/demo:v1 becomes
// harbor.example.org/virt/demo:v1. Layers that the registry has are not sent again.
func Push(ctx context.Context, file, registry string, opts PushOptions) ([]Pushed, error) {
	a, err := Read(file)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if len(a.Images) == 0 {
		return nil, fmt.Errorf("%s holds no image", file)
	}
	var pushed []Pushed
	for _, img := range a.Images {
		target, err := targetRef(img.Ref, registry, opts)
		if err != nil {
			return pushed, fmt.Errorf("push from %s: %w", file, err)
		}
		if opts.Progress != nil {
			fmt.Fprintf(opts.Progress, "pushing %s\n", target)
		}
		if err := remote.Write(target, img.img, opts.remote(ctx)...); err != nil {
			return pushed, explainPush(target, err)
		}
		pushed = append(pushed, Pushed{Ref: target.String(), Digest: img.Digest})
	}
	return pushed, nil
}

func (o PushOptions) remote(ctx context.Context) []remote.Option {
	keychain := o.Keychain
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain), remote.WithUserAgent("virtctl")}
	if t := o.transport(); t != nil {
		options = append(options, remote.WithTransport(t))
	}
	return options
}

func (o PushOptions) transport() http.RoundTripper {
	if o.Transport != nil || !o.Insecure {
		return o.Transport
	}
	return insecureTransport()
}

// targetRef gives the last part of an image's name a place in another registry.
func targetRef(ref, registry string, opts PushOptions) (name.Tag, error) {
	options := []name.Option{name.WithDefaultRegistry("docker.io")}
	if opts.Insecure {
		options = append(options, name.Insecure)
	}
	from, err := name.NewTag(ref, options...)
	if err != nil || ref == "" {
		return name.Tag{}, fmt.Errorf("the image has no usable name (%q): build it with one: %w", ref, err)
	}
	tag := from.TagStr()
	if opts.Tag != "" {
		tag = opts.Tag
	}
	full := strings.TrimSuffix(registry, "/") + "/" + path.Base(from.RepositoryStr()) + ":" + tag
	to, err := name.NewTag(full, options...)
	if err != nil {
		return name.Tag{}, fmt.Errorf("%q is not a place in a registry: write host[:port][/path]: %w", registry, err)
	}
	return to, nil
}

// explainPush says what a person can do about the registry's answer.
func explainPush(ref name.Reference, err error) error {
	var status *transport.Error
	hint := "check the registry's address; for one without TLS use --insecure"
	if errors.As(err, &status) {
		switch status.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			hint = "log in first (`docker login` or `podman login --compat-auth-file ~/.docker/config.json`) with an account that may push there"
		case http.StatusNotFound:
			hint = "the registry has no such place: create the project or repository first"
		default:
			hint = "the registry refused it"
		}
	}
	return fmt.Errorf("push %s: %s: %w", ref, hint, err)
}

// Blobs lists the digests of everything an image is made of: what a registry must have for it.
func Blobs(img v1.Image) ([]string, error) {
	blobs, err := imageBlobs(img)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, b := range blobs {
		out = append(out, b.hash.String())
	}
	return slices.Clip(out), nil
}
