// Package registry is the registry source: a container disk, which is an image with one disk in its folder disk/. The disk is read out of the
// layer as it comes from the registry: nothing is unpacked.
package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"virtctl/internal/cdi/source"
	"virtctl/internal/cdi/source/web"
)

// Image is docker://server/repository:tag, or @digest, and how to read it.
type Image struct {
	URL            string
	User, Password string
	// Architecture is the platform's; empty takes the node's.
	Architecture string
	Policy       source.Policy
	web.Options

	labels map[string]string
}

// layer is a part of an image, with its file system as a compressed tar.
type layer struct {
	digest v1.Hash
	blob   source.Object
}

// Labels are what the image says about itself, once it was opened.
func (m *Image) Labels() map[string]string { return m.labels }

// Open begins to read the disk at an offset.
func (m *Image) Open(ctx context.Context, start source.Start) (source.Stream, error) {
	var layers []layer
	err := source.Retry(ctx, m.Policy, func() (err error) {
		layers, err = m.layers(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return openDisk(ctx, layers, start, m.Policy)
}

// layers asks for the image's manifest. The topmost layer comes first.
func (m *Image) layers(ctx context.Context) ([]layer, error) {
	if _, ok := strings.CutPrefix(m.URL, "oci-archive:"); ok {
		return m.archiveLayers()
	}
	text, ok := strings.CutPrefix(m.URL, "docker://")
	if !ok {
		return nil, source.Fatalf(source.ReasonUnusable, "the registry URL must be docker://server/repository:tag")
	}
	var options []name.Option
	if m.Insecure {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(text, options...)
	if err != nil {
		return nil, source.Fatalf(source.ReasonUnusable, "the registry URL cannot be read: %w", err)
	}
	registry := ref.Context().Registry
	origin := &url.URL{Scheme: registry.Scheme(), Host: registry.RegistryStr()}
	client, err := web.NewClient(origin, m.Options)
	if err != nil {
		return nil, err
	}
	auth := authn.Anonymous
	if m.User != "" || m.Password != "" {
		auth = &authn.Basic{Username: m.User, Password: m.Password}
	}
	signed, err := transport.NewWithContext(ctx, registry, auth, client.Transport, []string{ref.Scope(transport.PullScope)})
	if err != nil {
		return nil, explain(origin, ref, err)
	}
	client.Transport = signed
	img, err := m.image(ctx, ref, signed)
	if err != nil {
		return nil, explain(origin, ref, err)
	}
	return m.remoteLayers(img, ref, client)
}

// image picks the one for the platform.
func (m *Image) image(ctx context.Context, ref name.Reference, rt http.RoundTripper) (v1.Image, error) {
	arch := m.Architecture
	if arch == "" {
		arch = runtime.GOARCH
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithTransport(rt), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
	if err != nil {
		if strings.Contains(err.Error(), "no child with platform") {
			return nil, source.Fatalf(source.ReasonUnusable, "%s has no image for linux/%s: choose another one, or another architecture", ref, arch)
		}
		return nil, err
	}
	return img, m.inspect(img)
}

// inspect checks the architecture, if one was asked for, and takes the labels.
func (m *Image) inspect(img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if m.Architecture != "" && config.Architecture != "" && config.Architecture != m.Architecture {
		return source.Fatalf(source.ReasonUnusable, "the image is for %s and not for %s: choose another one, or another architecture", config.Architecture, m.Architecture)
	}
	m.labels = LabelsOf(config.Config.Env)
	return nil
}

func (m *Image) remoteLayers(img v1.Image, ref name.Reference, client *http.Client) ([]layer, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	var layers []layer
	for i := len(manifest.Layers) - 1; i >= 0; i-- {
		desc := manifest.Layers[i]
		if !desc.MediaType.IsLayer() {
			continue
		}
		repo := ref.Context()
		u := &url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/blobs/" + desc.Digest.String()}
		layers = append(layers, layer{digest: desc.Digest, blob: &blob{web.Object{Client: client, URL: u}, desc}})
	}
	return layers, nil
}

// blob is named by its digest: it never changes, whatever a server says in its headers.
type blob struct {
	web.Object
	desc v1.Descriptor
}

func (b *blob) Open(ctx context.Context, part source.Part, _ source.Info) (readCloser, source.Info, error) {
	body, info, err := b.Object.Open(ctx, part, source.Info{Size: b.desc.Size})
	if err != nil {
		return nil, info, err
	}
	info.Identity, info.Size = b.desc.Digest.String(), b.desc.Size
	return body, info, nil
}

// explain says what a registry's answer means to the user.
func explain(origin *url.URL, ref name.Reference, err error) error {
	if _, fatal := source.Fatal(err); fatal {
		return err
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return web.Explain(origin, err)
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return source.Fatalf(source.ReasonDenied, "%s: the registry answers %d: give the source a secretRef with accessKeyId and secretKey that may pull it, and check its name", ref, answer.StatusCode)
	case http.StatusNotFound:
		return source.Fatalf(source.ReasonUnusable, "%s: the registry has no such image: check its name and tag", ref)
	case http.StatusTooManyRequests:
		return err
	}
	if answer.StatusCode >= 400 && answer.StatusCode < 500 {
		return source.Fatalf(source.ReasonUnusable, "%s: the registry answers %d: %.300s", ref, answer.StatusCode, answer.Error())
	}
	return err
}
