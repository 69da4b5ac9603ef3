package imageupload

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"virtctl/internal/cdi/names"
)

// halfSparse is a source of 4 MiB of which 1 MiB is data, and what an older client would have sent of it.
func halfSparse(t *testing.T) *source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	disk := append(bytes.Repeat([]byte("data"), 256<<10), make([]byte, 3<<20)...)
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := describeFile(file, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	s.look(context.Background())
	return s
}

// What is sent depends on who takes it and on what was begun: nobody sends again what is there, and upstream's servers get the file itself.
func TestChoose(t *testing.T) {
	s := halfSparse(t)
	contents, err := s.contents(context.Background())
	if err != nil || len(contents) != 2 || contents[0].layout == "" || contents[1].length != 4<<20 || contents[0].length > 2<<20 {
		t.Fatalf("%+v, %v", contents, err)
	}
	packed, err1 := s.identity(contents[0])
	plain, err2 := s.identity(contents[1])
	if err1 != nil || err2 != nil || packed == plain {
		t.Fatalf("the identities are %q and %q: %v, %v", packed, plain, err1, err2)
	}
	for name, c := range map[string]struct {
		offset, identity string
		want             *content
		from             int64
	}{
		"nothing begun":             {"0", "", contents[0], 0},
		"begun without zeros":       {"65536", packed, contents[0], 65536},
		"begun by an older client":  {"65536", plain, contents[1], 65536},
		"begun, and nothing safe":   {"0", plain, contents[0], 0},
		"begun with something else": {"65536", "another", contents[0], 0},
		"beyond the end":            {strconv.Itoa(8 << 20), packed, contents[0], 0},
		"upstream's server":         {"", "", contents[1], 0},
	} {
		told := 0
		sender := &sender{source: s, contents: contents, say: func(string, ...any) {}, chosen: func(*content) { told++ }}
		header := http.Header{}
		header.Set(names.HeaderOffset, c.offset)
		header.Set(names.HeaderIdentity, c.identity)
		for range 2 {
			stands, err := sender.standing("upload-async", header)
			if err != nil || sender.content != c.want || stands.offset != c.from || stands.resumable != (c.offset != "") || told != 1 {
				t.Errorf("%s: %+v of %+v, told %d times, %v", name, stands, sender.content, told, err)
			}
		}
		// A server that is asked again never gets the end of one content after the beginning of the other.
		header.Set(names.HeaderOffset, "65536")
		header.Set(names.HeaderIdentity, map[bool]string{true: plain, false: packed}[sender.content == contents[0]])
		if stands, err := sender.standing("upload-async", header); err != nil || stands.offset != 0 {
			t.Errorf("%s: goes on at %d of the other content, %v", name, stands.offset, err)
		}
	}
}

// A finished disk is recognised whichever of the file's contents it was made of.
func TestFind(t *testing.T) {
	ctx := context.Background()
	s := halfSparse(t)
	contents, err := s.contents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contents {
		digest, err := s.digest(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, length := range []string{"", fmt.Sprint(c.length)} {
			if got, err := s.find(ctx, digest, length); err != nil || got == nil || got.length != c.length {
				t.Errorf("length %q: %+v, %v; want %+v", length, got, err, c)
			}
		}
		if got, err := s.find(ctx, digest, "12345"); got != nil || err != nil {
			t.Errorf("another length: %+v, %v", got, err)
		}
		if got, err := s.find(ctx, "sha256:00", ""); got != nil || err != nil {
			t.Errorf("another digest: %+v, %v", got, err)
		}
	}
}

// Only raw image files are looked through: an archive, a pipe or an image of another format is sent as it is.
func TestLooked(t *testing.T) {
	s := halfSparse(t)
	for name, change := range map[string]func(*source){
		"archive": func(s *source) { s.archive = true },
		"pipe":    func(s *source) { s.file = nil },
		"format":  func(s *source) { s.info.Format = "qcow2" },
		"device":  func(s *source) { s.regular = false },
	} {
		other := *s
		other.looked, other.without = nil, nil
		change(&other)
		other.look(context.Background())
		contents, err := other.contents(context.Background())
		if other.looked != nil || err != nil || len(contents) != 1 || contents[0].layout != "" {
			t.Errorf("%s: %+v, %v", name, contents, err)
		}
	}
	if body := (&sender{source: s, content: s.own()}).body(1 << 20); body == nil {
		t.Fatal("no body")
	} else if n, err := io.Copy(io.Discard, body); n != 3<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A file that somebody writes to meanwhile is noticed, and one that gets shorter never becomes a disk with zeros in its place.
func TestTouched(t *testing.T) {
	ctx := context.Background()
	s := halfSparse(t)
	contents, err := s.contents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.touched(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.name, 1<<19); err != nil {
		t.Fatal(err)
	}
	if err := s.touched(); err == nil {
		t.Error("a file that was changed is not noticed")
	}
	for _, c := range contents {
		if digest, err := s.digest(ctx, c); err == nil {
			t.Errorf("a file that got shorter has a digest: %s", digest)
		}
	}
}
