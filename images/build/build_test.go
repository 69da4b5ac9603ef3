package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"virtctl/internal/images"
)

func testBuilder(t *testing.T) *builder {
	t.Helper()
	dir := t.TempDir()
	return &builder{
		source: "..", bin: filepath.Join(dir, "bin"), out: filepath.Join(dir, "out"), cache: filepath.Join(dir, "cache"),
		prefix: "example.org/virt", tag: "v1", created: time.Unix(1_700_000_000, 0), log: &bytes.Buffer{},
	}
}

// The kernel must be able to unpack what we pack.
func TestInitrdIsACpioArchive(t *testing.T) {
	guest := initrd{}
	guest.add(node{path: "etc/motd", mode: 0o644, data: []byte("hello")})
	guest.add(node{path: "bin/sh", mode: 0o755, data: []byte("x")})
	guest.link("init", "/bin/sh")
	guest.add(node{path: "dev/console", mode: fs.ModeCharDevice | 0o600, dev: [2]int{5, 1}})
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := guest.write(w); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same entries gave different archives")
	}
	got := entryNames(t, first.Bytes())
	want := []string{".", "bin", "bin/sh", "dev", "dev/console", "etc", "etc/motd", "init", "TRAILER!!!"}
	if !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
}

// entryNames walks a newc archive by its own lengths.
func entryNames(t *testing.T, archive []byte) []string {
	t.Helper()
	var names []string
	for len(archive) > 0 {
		if !bytes.HasPrefix(archive, []byte("070701")) {
			t.Fatalf("no header after %q", names)
		}
		size, length := hexNumber(t, archive[54:62]), hexNumber(t, archive[94:102])
		names = append(names, string(archive[110:110+length-1]))
		archive = archive[(110+length+3)&^3:]
		archive = archive[(size+3)&^3:]
	}
	return names
}

func hexNumber(t *testing.T, digits []byte) int {
	t.Helper()
	n := 0
	for _, d := range digits {
		n = n<<4 + strings.IndexByte("0123456789abcdef", d)
	}
	return n
}

// modprobe loads from the right: a module must stand left of all that it needs.
func TestModuleOrder(t *testing.T) {
	mods := map[string]module{
		"top": {name: "top", path: "top.ko", depends: []string{"mid", "low"}, aliases: []string{"pci:v1*"}},
		"mid": {name: "mid", path: "mid.ko", depends: []string{"low"}},
		"low": {name: "low", path: "low.ko"},
	}
	if got := closure(mods, mods["top"].depends); !slices.Equal(got, []string{"mid", "low"}) {
		t.Errorf("order %q", got)
	}
	guest := initrd{}
	addModules(guest, "6.1", mods)
	if got := string(guest["lib/modules/6.1/modules.dep"].data); got != "low.ko:\nmid.ko: low.ko\ntop.ko: mid.ko low.ko\n" {
		t.Errorf("modules.dep %q", got)
	}
	if got := string(guest["lib/modules/6.1/modules.alias"].data); got != "alias pci:v1* top\n" {
		t.Errorf("modules.alias %q", got)
	}
}

// Every list in the repository can be read, and holds what the images cannot do without.
func TestPackageLists(t *testing.T) {
	for file, want := range map[string]string{
		"../packages.txt": "mmdebstrap", "../launcher/packages.txt": "libvirt-daemon-driver-qemu", "../demo/packages.txt": "linux-image-amd64", "../demo/modules.txt": "virtio_net",
	} {
		names, err := packageList(file)
		if err != nil || !slices.Contains(names, want) {
			t.Errorf("%s: %q, %v", file, names, err)
		}
	}
}

// Whoever lacks a program is told the command that brings it, before anything was begun.
func TestMissingToolsNameTheirPackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	all, err := pick(nil)
	if err != nil {
		t.Fatal(err)
	}
	err = requireTools(all)
	if err == nil || !strings.Contains(err.Error(), "apt-get install -y --no-install-recommends mmdebstrap xz-utils qemu-utils mtools syslinux") {
		t.Errorf("got %v", err)
	}
	if _, err := pick([]string{"nonsense"}); err == nil || !strings.Contains(err.Error(), "virt-launcher") {
		t.Errorf("unknown image: %v", err)
	}
}

func TestProgramNotBuilt(t *testing.T) {
	b := testBuilder(t)
	_, err := buildServer(context.Background(), b)
	if err == nil || !strings.Contains(err.Error(), "run `make ") || !strings.Contains(err.Error(), "virt-server") {
		t.Errorf("got %v", err)
	}
}

// The test's own binary stands for a program: static ones are taken, others would not start and are refused.
func TestStaticImage(t *testing.T) {
	b := testBuilder(t)
	if err := os.MkdirAll(b.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(b.bin, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(b.bin, "virt-server"), source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GO111MODULE=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	built, err := buildServer(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	a, err := images.Read(b.tar("virt-server"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got := a.Images[0]; got.Ref != "example.org/virt/virt-server:v1" || got.Digest != built.Digest {
		t.Errorf("%+v", got)
	}
	if err := checkStatic("/bin/sh"); err == nil {
		t.Error("a program that needs a C library was taken")
	}
}

func TestBuildTime(t *testing.T) {
	if got, err := buildTime("1700000000"); err != nil || got.Unix() != 1_700_000_000 {
		t.Errorf("%v %v", got, err)
	}
	if got, err := buildTime(""); err != nil || got.IsZero() {
		t.Errorf("%v %v", got, err)
	}
	if _, err := buildTime("yesterday"); err == nil {
		t.Error("taken")
	}
}

// The image of a pod that runs as a plain user has nothing that belongs to somebody else but that user's folders.
func TestRootOwned(t *testing.T) {
	files := rootOwned([]images.File{{Path: "etc/x", UID: 5, GID: 6}, {Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777}})
	if files[0].UID != 0 || files[0].GID != 0 || files[1].UID != launcherUser || files[1].Mode.Perm() != 0o755 {
		t.Errorf("%+v", files)
	}
}
