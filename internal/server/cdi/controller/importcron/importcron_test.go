package importcron

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// What is imported is what was asked for, whatever the tag stands for by then.
func TestPin(t *testing.T) {
	const digest = "sha256:abcdef0123456789"
	for from, want := range map[string]string{
		"docker://quay.io/a/b:latest":      "docker://quay.io/a/b@" + digest,
		"docker://quay.io/a/b":             "docker://quay.io/a/b@" + digest,
		"docker://registry:5000/b":         "docker://registry:5000/b@" + digest,
		"docker://registry:5000/b:1":       "docker://registry:5000/b@" + digest,
		"docker://quay.io/a@sha256:000000": "docker://quay.io/a@" + digest,
		"oci-archive:///x":                 "oci-archive:///x",
	} {
		r := &cdi.DataVolumeSourceRegistry{URL: &from}
		pin(r, digest, "")
		if *r.URL != want {
			t.Errorf("%s became %s", from, *r.URL)
		}
	}
	stream := "fedora"
	r := &cdi.DataVolumeSourceRegistry{ImageStream: &stream}
	pin(r, digest, "registry/x@"+digest)
	if r.ImageStream != nil || *r.URL != "docker://registry/x@"+digest {
		t.Errorf("%+v", r)
	}
	if got := volumeName("fedora", digest); got != "fedora-abcdef012345" {
		t.Error(got)
	}
}

// A real registry is asked once, without reading the image; one that is pinned is not asked at all.
func TestDigest(t *testing.T) {
	server := httptest.NewServer(ggcr.New())
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(host+"/disks/a:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Digest(context.Background(), Question{URL: "docker://" + host + "/disks/a:1", InsecureHosts: []string{host}})
	if err != nil || got != want.String() {
		t.Errorf("%s, %v", got, err)
	}
	got, err = Digest(context.Background(), Question{URL: "docker://nowhere.invalid/a@" + want.String()})
	if err != nil || got != want.String() {
		t.Errorf("pinned: %s, %v", got, err)
	}
	for _, bad := range []string{"http://x/y", "docker://", "docker://169.254.169.254/latest:1", "docker://" + host + "/disks/none:1"} {
		if got, err := Digest(context.Background(), Question{URL: bad, InsecureHosts: []string{host}}); err == nil {
			t.Errorf("%s: %s", bad, got)
		}
	}
}
