package images

import (
	"context"
	"errors"
	"fmt"
	"io"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"

	"virtctl/embedded/internal/assets"
)

const (
	// Namespace is where the kubelet's images live.
	Namespace = "k8s.io"
	// annotationImageName is what containerd reads an image's full name from.
	annotationImageName = "io.containerd.image.name"
	snapshotter         = "overlayfs"
)

// labels mark an image as one that the kubelet must never remove: it cannot be pulled again.
func labels() map[string]string {
	return map[string]string{"io.cri-containerd.image": "managed", "io.cri-containerd.pinned": "pinned"}
}

// Store is one node's containerd.
type Store struct{ client *containerd.Client }

// Open connects to a containerd.
func Open(socket string) (*Store, error) {
	client, err := containerd.New(socket, containerd.WithDefaultNamespace(Namespace))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd: %w", err)
	}
	return &Store{client}, nil
}

// Close ends the connection.
func (s *Store) Close() error { return s.client.Close() }

// EnsurePause imports the sandbox image unless it is there with the present content.
func (s *Store) EnsurePause(ctx context.Context) error {
	program, err := assets.Pause()
	if err != nil {
		return err
	}
	r, err := pauseArchive(program)
	if err != nil {
		return err
	}
	_, err = s.Load(ctx, r)
	return err
}

// Load imports an OCI or docker archive and unpacks its images. Each image is known by its name and, as if it had been pulled, by
// its digest. It returns the names.
func (s *Store) Load(ctx context.Context, r io.Reader) ([]string, error) {
	ctx = namespaces.WithNamespace(ctx, Namespace)
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }() // an unreleased lease ends by itself after a day
	imported, err := s.client.Import(ctx, r,
		containerd.WithImageLabels(labels()),
		containerd.WithImageRefTranslator(normalize),
	)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if len(imported) == 0 {
		return nil, errors.New("import: the archive names no image for this machine: write the name into the annotation org.opencontainers.image.ref.name")
	}
	var names []string
	for _, image := range imported {
		if err := containerd.NewImageWithPlatform(s.client, image, platforms.Default()).Unpack(ctx, snapshotter); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", image.Name, err)
		}
		if err := s.aliases(ctx, image); err != nil {
			return nil, err
		}
		names = append(names, image.Name)
	}
	return names, nil
}

// normalize gives a short name its registry, as the kubelet does with the names in pods.
func normalize(name string) string {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return name
	}
	return ref.String()
}

// aliases gives an image the names that a pull would have given it: repository and digest, and the image id, which is the digest of its
// configuration and by which the kubelet asks for it.
func (s *Store) aliases(ctx context.Context, image images.Image) error {
	config, err := image.Config(ctx, s.client.ContentStore(), platforms.Default())
	if err != nil {
		return fmt.Errorf("read the configuration of %s: %w", image.Name, err)
	}
	names := []string{config.Digest.String()}
	if ref, err := reference.ParseDockerRef(image.Name); err == nil {
		byDigest, err := reference.WithDigest(reference.TrimNamed(ref), image.Target.Digest)
		if err != nil {
			return fmt.Errorf("name %s by digest: %w", image.Name, err)
		}
		names = append(names, byDigest.String())
	}
	for _, name := range names {
		alias := images.Image{Name: name, Target: image.Target, Labels: labels()}
		_, err := s.client.ImageService().Create(ctx, alias)
		if errdefs.IsAlreadyExists(err) {
			_, err = s.client.ImageService().Update(ctx, alias)
		}
		if err != nil {
			return fmt.Errorf("name %s as %s: %w", image.Name, name, err)
		}
	}
	return nil
}
