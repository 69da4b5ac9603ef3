package iso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeImage(t *testing.T, label string, files []File) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.iso")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Write(f, label, time.Unix(1700000000, 0), files); err != nil {
		t.Fatal(err)
	}
	return path
}

func sample() []File {
	files := []File{
		{"meta-data", []byte(`{"instance-id":"x"}`)},
		{"user-data", bytes.Repeat([]byte("#cloud-config\n"), 1000)},
		{"network-config", nil},
		{"openstack/latest/meta_data.json", []byte("{}")},
		{"openstack/latest/user_data", []byte("u")},
		{"Ünïcode name.txt", []byte("unicode")},
		{strings.Repeat("long-", 50) + ".conf", []byte("long")},
		{strings.Repeat("long-", 50) + ".cone", []byte("long2")},
	}
	for i := range 200 {
		files = append(files, File{fmt.Sprintf("many/file-number-%03d.data", i), fmt.Appendf(nil, "%d", i)})
	}
	return files
}

// Another program must find every file with its name and content, by Rock Ridge.
func TestRockRidgeIsReadByOthers(t *testing.T) {
	path := writeImage(t, "cidata", sample())
	out := filepath.Join(t.TempDir(), "out")
	if b, err := exec.Command("xorriso", "-abort_on", "WARNING", "-osirrox", "on", "-indev", path, "-extract", "/", out).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, b)
	}
	for _, f := range sample() {
		got, err := os.ReadFile(filepath.Join(out, f.Path))
		if err != nil || !bytes.Equal(got, f.Content) {
			t.Errorf("%s: %v, %d bytes instead of %d", f.Path, err, len(got), len(f.Content))
		}
	}
	pvd, err := exec.Command("xorriso", "-indev", path, "-pvd_info").CombinedOutput()
	if err != nil || !strings.Contains(string(pvd), "Volume Id    : cidata") {
		t.Errorf("label: %v\n%s", err, pvd)
	}
}

// Windows reads Joliet only.
func TestJolietIsReadByOthers(t *testing.T) {
	path := writeImage(t, "cidata", sample())
	out := filepath.Join(t.TempDir(), "out")
	if b, err := exec.Command("xorriso", "-abort_on", "WARNING", "-osirrox", "on", "-read_fs", "norock", "-indev", path, "-extract", "/", out).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, b)
	}
	for _, f := range sample() {
		name := f.Path
		if len(name) > maxJoliet {
			continue // cut, as Joliet must
		}
		got, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || !bytes.Equal(got, f.Content) {
			t.Errorf("%s: %v, %d bytes instead of %d", name, err, len(got), len(f.Content))
		}
	}
}

func TestBadPathsAreRefused(t *testing.T) {
	for _, p := range []string{"", "/etc/passwd", "../x", "a/../../x", ".", strings.Repeat("x", 300), strings.Repeat("d/", 20) + "f"} {
		if err := Write(&bytes.Buffer{}, "x", time.Now(), []File{{p, nil}}); err == nil {
			t.Errorf("%q was accepted", p)
		}
	}
	if err := Write(&bytes.Buffer{}, "x", time.Now(), []File{{"a", nil}, {"a", nil}}); err == nil {
		t.Error("the same file twice was accepted")
	}
	if err := Write(&bytes.Buffer{}, strings.Repeat("x", 33), time.Now(), nil); err == nil {
		t.Error("a long label was accepted")
	}
}

func TestTheSameInputGivesTheSameImage(t *testing.T) {
	a, err := os.ReadFile(writeImage(t, "cidata", sample()))
	if err != nil {
		t.Fatal(err)
	}
	files := sample()
	for i := range files {
		j := len(files) - 1 - i
		if i < j {
			files[i], files[j] = files[j], files[i]
		}
	}
	b, err := os.ReadFile(writeImage(t, "cidata", files))
	if err != nil || !bytes.Equal(a, b) {
		t.Fatal("the order of the files matters")
	}
}

func BenchmarkWrite(b *testing.B) {
	for b.Loop() {
		if err := Write(&bytes.Buffer{}, "cidata", time.Now(), sample()[:3]); err != nil {
			b.Fatal(err)
		}
	}
}

// Storage with blocks of 4 KiB cannot hold half of one.
func TestAnImageEndsAtFourKiB(t *testing.T) {
	var files []File
	for i := range 5 {
		files = append(files, File{Path: fmt.Sprintf("f%d", i), Content: []byte("x")})
		var out bytes.Buffer
		if err := Write(&out, "cfgdata", time.Unix(0, 0), files); err != nil {
			t.Fatal(err)
		}
		if size := out.Len(); size%4096 != 0 {
			t.Errorf("with %d files it has %d bytes", len(files), size)
		}
		// ECMA-119, 8.4.8: the size the image says it has.
		if said := binary.LittleEndian.Uint32(out.Bytes()[16*2048+80:]); int(said)*2048 != out.Len() {
			t.Errorf("with %d files it says %d sectors and has %d bytes", len(files), said, out.Len())
		}
	}
}
