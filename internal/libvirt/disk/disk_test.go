package disk

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"virtctl/internal/libvirt/image"
	"virtctl/internal/libvirt/wire"
)

type fixture struct {
	Maker
	dir string
}

func newFixture(t *testing.T) fixture {
	dir := t.TempDir()
	return fixture{Maker{DiskDir: filepath.Join(dir, "disks"), ISODir: filepath.Join(dir, "iso")}, dir}
}

// file writes a file below the fixture's directory and returns its path.
func (f fixture) file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f fixture) one(t *testing.T, spec wire.DiskSpec) wire.DiskFacts {
	t.Helper()
	if spec.Name == "" {
		spec.Name = "vol"
	}
	facts, err := f.Prepare(context.Background(), []wire.DiskSpec{spec})
	if err != nil {
		t.Fatal(err)
	}
	return facts[0]
}

func TestContainerDiskGetsAnOverlayThatStays(t *testing.T) {
	f := newFixture(t)
	source := f.file(t, "image/disk/disk.raw", make([]byte, 1<<20))
	spec := wire.DiskSpec{Kind: wire.DiskImage, Source: filepath.Join(f.dir, "image")}
	facts := f.one(t, spec)
	if facts.Name != "vol" || facts.Format != "qcow2" || facts.Backing != source || facts.BackingFormat != "raw" || facts.VirtualSize != 1<<20 {
		t.Fatalf("facts: %+v", facts)
	}
	if out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 4k", facts.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if again := f.one(t, spec); again != facts {
		t.Fatalf("the second time: %+v", again)
	}
	if out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", "read -P 9 0 4k", facts.Path).CombinedOutput(); err != nil {
		t.Fatalf("what the guest wrote is gone: %v\n%s", err, out)
	}
}

func TestContainerDiskByPath(t *testing.T) {
	f := newFixture(t)
	f.file(t, "image/disk/a.img", make([]byte, 1<<20))
	want := f.file(t, "image/other/b.img", make([]byte, 2<<20))
	for _, p := range []string{"/other/b.img", "other/b.img", "//other/./b.img"} {
		facts := f.one(t, wire.DiskSpec{Kind: wire.DiskImage, Source: filepath.Join(f.dir, "image"), Path: p, Name: "by-path"})
		if facts.Backing != want {
			t.Fatalf("%s: %+v", p, facts)
		}
	}
}

// Each refusal names the volume and a reason its user can act on, and is not worth a retry.
func TestBadDisksAreRefused(t *testing.T) {
	f := newFixture(t)
	secret := f.file(t, "secret", make([]byte, 4096))
	f.file(t, "two/disk/a", []byte("a"))
	f.file(t, "two/disk/b", []byte("b"))
	f.file(t, "nodisk/data", []byte("a"))
	f.file(t, "corrupt/disk/x.qcow2", []byte("QFI\xfb\x00\x00\x00\x03"))
	f.file(t, "big/disk/x.raw", make([]byte, 1<<20))
	for _, dir := range []string{"empty/disk", "link/disk", "fifo/disk", "subdir/disk/x", "inner/disk"} {
		if err := os.MkdirAll(filepath.Join(f.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	backing, err := os.Create(filepath.Join(f.dir, "inner/disk/x.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := image.WriteQCOW2(backing, 1<<20, &image.Backing{Path: secret, Format: image.Raw}); err != nil {
		t.Fatal(err)
	}
	_ = backing.Close()
	if err := os.Symlink(secret, filepath.Join(f.dir, "link/disk/x")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfifo", filepath.Join(f.dir, "fifo/disk/x")).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	image := func(dir string) wire.DiskSpec {
		return wire.DiskSpec{Kind: wire.DiskImage, Source: filepath.Join(f.dir, dir)}
	}
	with := func(s wire.DiskSpec, change func(*wire.DiskSpec)) wire.DiskSpec { change(&s); return s }
	for name, tc := range map[string]struct {
		spec wire.DiskSpec
		want string
	}{
		"two files":       {image("two"), "holds 2 files"},
		"no /disk":        {image("nodisk"), "no directory /disk"},
		"empty /disk":     {image("empty"), "is empty"},
		"corrupt":         {image("corrupt"), "corrupt"},
		"backing file":    {image("inner"), "has a backing file"},
		"link out of it":  {image("link"), "open /disk/x"},
		"fifo":            {image("fifo"), "not a regular file"},
		"directory":       {image("subdir"), "not a regular file"},
		"too big":         {with(image("big"), func(s *wire.DiskSpec) { s.MaxVirtualSize = 1 << 19 }), "the limit is 524288"},
		"path leaves":     {with(image("two"), func(s *wire.DiskSpec) { s.Path = "disk/../../secret" }), "leaves the image"},
		"path missing":    {with(image("two"), func(s *wire.DiskSpec) { s.Path = "/disk/c" }), "no file /disk/c"},
		"no claim image":  {wire.DiskSpec{Kind: wire.DiskFile, Source: filepath.Join(f.dir, "nothing")}, "does not exist"},
		"not a device":    {wire.DiskSpec{Kind: wire.DiskBlock, Source: secret}, "not a block device"},
		"no capacity":     {wire.DiskSpec{Kind: wire.DiskEmpty}, "needs a capacity"},
		"unknown kind":    {wire.DiskSpec{Kind: "tape"}, "tape"},
		"name with slash": {wire.DiskSpec{Kind: wire.DiskEmpty, Name: "../x", Capacity: 1}, "../x"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := tc.spec
			if spec.Name == "" {
				spec.Name = "rootdisk"
			}
			_, err := f.Prepare(context.Background(), []wire.DiskSpec{spec})
			var e *wire.Error
			if !errors.As(err, &e) || e.Code != wire.CodeInvalid || e.Disk != spec.Name || !strings.Contains(e.Message, tc.want) || !strings.Contains(e.Message, spec.Name) {
				t.Fatalf("got %#v, want one about %q with %q", err, spec.Name, tc.want)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	f := newFixture(t)
	path := filepath.Join(f.dir, "disk.img")
	facts := f.one(t, wire.DiskSpec{Kind: wire.DiskFile, Source: path, Create: true, Capacity: 10<<20 + 100})
	if facts.Format != "raw" || facts.VirtualSize != 10<<20 || facts.Preallocated {
		t.Fatalf("new: %+v", facts)
	}
	// A guest that writes a qcow2 header to its disk must not change what the disk is.
	if err := os.WriteFile(path, append([]byte("QFI\xfb"), make([]byte, 4096-4)...), 0o600); err != nil {
		t.Fatal(err)
	}
	facts = f.one(t, wire.DiskSpec{Kind: wire.DiskFile, Source: path, Create: true, Capacity: 10 << 20})
	if facts.Format != "raw" || facts.VirtualSize != 10<<20 {
		t.Fatalf("existing: %+v", facts)
	}
	facts = f.one(t, wire.DiskSpec{Kind: wire.DiskOverlay, Source: path})
	if facts.Format != "qcow2" || facts.Backing != path || facts.BackingFormat != "raw" {
		t.Fatalf("ephemeral: %+v", facts)
	}
	facts = f.one(t, wire.DiskSpec{Kind: wire.DiskFile, Source: filepath.Join(f.dir, "full.img"), Create: true, Capacity: 1 << 20, Preallocate: true})
	if !facts.Preallocated {
		t.Fatalf("preallocated: %+v", facts)
	}
}

func TestCloudInit(t *testing.T) {
	f := newFixture(t)
	f.file(t, "udata/..2026/userdata", []byte("#cloud-config from secret"))
	f.file(t, "keys/..2026/key1", []byte("ssh-ed25519 A a\nssh-ed25519 B b\n"))
	for _, dir := range []string{"udata", "keys"} {
		if err := os.Symlink("..2026", filepath.Join(f.dir, dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"udata/userdata": "..data/userdata", "keys/key1": "..data/key1"} {
		if err := os.Symlink(to, filepath.Join(f.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	facts := f.one(t, wire.DiskSpec{
		Kind: wire.DiskISO, Label: "cidata",
		Files: []wire.ISOFile{
			{Path: "user-data", From: filepath.Join(f.dir, "udata/userdata")},
			{Path: "network-config", Content: []byte("dmVyc2lvbjogMg=="), Base64: true},
			{Path: "vendor-data", From: filepath.Join(f.dir, "udata/none"), Optional: true},
		},
		CloudInit: &wire.CloudInit{Type: "nocloud", InstanceID: "uuid-1", Hostname: "web", KeyDirs: []string{filepath.Join(f.dir, "keys")}},
	})
	if !facts.ReadOnly || facts.Format != "raw" {
		t.Fatalf("facts: %+v", facts)
	}
	got := f.extract(t, facts.Path)
	if got["user-data"] != "#cloud-config from secret" || got["network-config"] != "version: 2" || len(got) != 3 {
		t.Fatalf("files: %q", got)
	}
	var meta struct {
		InstanceID string            `json:"instance-id"`
		Hostname   string            `json:"local-hostname"`
		Keys       map[string]string `json:"public-keys"`
	}
	if err := json.Unmarshal([]byte(got["meta-data"]), &meta); err != nil || meta.InstanceID != "uuid-1" || meta.Hostname != "web" ||
		meta.Keys["0"] != "ssh-ed25519 A a" || meta.Keys["1"] != "ssh-ed25519 B b" {
		t.Fatalf("meta-data %q: %+v, %v", got["meta-data"], meta, err)
	}
}

func TestConfigVolumeBecomesAnISO(t *testing.T) {
	f := newFixture(t)
	f.file(t, "cm/..2026/app.conf", []byte("conf"))
	f.file(t, "cm/..2026/sub/x", []byte("nested"))
	for link, to := range map[string]string{"cm/..data": "..2026", "cm/app.conf": "..data/app.conf", "cm/sub": "..data/sub"} {
		if err := os.Symlink(to, filepath.Join(f.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(f.dir, "config-map-disks", "v.iso")
	facts := f.one(t, wire.DiskSpec{Kind: wire.DiskISO, Label: "cfgdata", Source: filepath.Join(f.dir, "cm"), Image: image})
	if facts.Path != image {
		t.Errorf("the image is %s, wanted %s", facts.Path, image)
	}
	if got := f.extract(t, facts.Path); got["app.conf"] != "conf" || got["sub/x"] != "nested" || len(got) != 2 {
		t.Fatalf("files: %q", got)
	}
}

// Who looks into launcher pods finds the image of cloud-init by the VMI's name, and of a size that disks of 4 KiB blocks take. A launcher
// that is asked again leaves it.
func TestCloudInitISOHasAnotherName(t *testing.T) {
	f := newFixture(t)
	other := filepath.Join(f.dir, "cloud-init-data", "ns", "vm", "noCloud.iso")
	spec := wire.DiskSpec{Kind: wire.DiskISO, Label: "cidata", Link: other, Files: []wire.ISOFile{{Path: "user-data", Content: []byte("#!")}}}
	for range 2 {
		facts := f.one(t, spec)
		if facts.Path == other {
			t.Errorf("the domain would have the image under its other name %s", other)
		}
		if got := f.extract(t, other); got["user-data"] != "#!" {
			t.Errorf("files: %q", got)
		}
		if facts.VirtualSize%4096 != 0 {
			t.Errorf("the image has %d bytes", facts.VirtualSize)
		}
	}
}

func (f fixture) extract(t *testing.T, iso string) map[string]string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if b, err := exec.Command("xorriso", "-abort_on", "WARNING", "-osirrox", "on", "-indev", iso, "-extract", "/", out).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, b)
	}
	files := map[string]string{}
	err := filepath.WalkDir(out, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(p)
		name, _ := filepath.Rel(out, p)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A claim that was made larger while the VM was stopped gives its guest a larger disk, and never a smaller one.
func TestDiskGrowsWithItsClaim(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 4<<20); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ capacity, want int64 }{{8 << 20, 8 << 20}, {2 << 20, 8 << 20}, {8<<20 + 512, 8 << 20}} {
		facts, err := Maker{}.Prepare(t.Context(), []wire.DiskSpec{{Name: "d", Kind: wire.DiskFile, Source: path, Create: true, Capacity: step.capacity}})
		if err != nil || facts[0].VirtualSize != step.want {
			t.Errorf("claim of %d: %+v, %v", step.capacity, facts, err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got[:7]) != "content" {
		t.Errorf("the content is gone: %v", err)
	}
}
