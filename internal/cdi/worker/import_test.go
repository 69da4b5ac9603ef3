package worker

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"virtctl/internal/cdi/names"
)

func TestImportOfEveryFormat(t *testing.T) {
	im := makeImages(t, 24, "qcow2", "qcow2z", "vmdk", "vdi", "vpc", "vhdx", "grown")
	compress(t, im.raw, "gz")
	compress(t, im.raw, "xz")
	compress(t, im.raw, "zst")
	compress(t, im.file("qcow2"), "gz")
	compress(t, im.file("grown"), "gz")
	server := serveFiles(t, im.dir)
	for _, name := range []string{
		"disk.raw", "disk.qcow2", "disk.qcow2z", "disk.vmdk", "disk.vdi", "disk.vpc", "disk.vhdx", "disk.grown",
		"disk.raw.gz", "disk.raw.xz", "disk.raw.zst", "disk.qcow2.gz", "disk.grown.gz",
	} {
		t.Run(name, func(t *testing.T) {
			before := server.sent.Load()
			p := newPod(t, httpEnv(server.URL+"/"+name))
			msg := p.mustImport()
			p.sameDisk(im.raw)
			// A VHD's size is a whole number of its cylinders, and one image was made larger.
			if msg.VirtualSize < im.size || msg.VirtualSize > im.size+4<<20 {
				t.Errorf("%+v", msg)
			}
			st, _ := os.Stat(filepath.Join(im.dir, name))
			sent := server.sent.Load() - before
			t.Logf("%d bytes sent for a file of %d, %s", sent, st.Size(), strings.Split(p.log.String(), "\n")[0])
			if sent > st.Size()*105/100+24<<20 {
				t.Errorf("%d bytes were sent for a file of %d", sent, st.Size())
			}
			if disk, _ := os.Stat(p.disk()); disk.Sys().(*syscall.Stat_t).Blocks*512 > im.size*6/10 {
				t.Errorf("the disk is not sparse: %d of %d bytes", disk.Sys().(*syscall.Stat_t).Blocks*512, im.size)
			}
		})
	}
}

// compress makes file.kind.
func compress(t *testing.T, file, kind string) {
	t.Helper()
	if kind == "gz" {
		in, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, err := os.Create(file + ".gz")
		if err != nil {
			t.Fatal(err)
		}
		z := gzip.NewWriter(out)
		_, _ = io.Copy(z, in)
		z.Close()
		out.Close()
		return
	}
	tool := map[string][]string{"xz": {"xz", "-k", "-1"}, "zst": {"zstd", "-q", "-k"}}[kind]
	if out, err := exec.Command(tool[0], append(tool[1:], file)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", tool[0], err, out)
	}
}

// An importer that is killed half-way goes on where it was, and sends little twice.
func TestImportGoesOnAfterKill(t *testing.T) {
	im := makeImages(t, 64, "qcow2")
	for _, name := range []string{"disk.raw", "disk.qcow2"} {
		t.Run(name, func(t *testing.T) {
			server := serveFiles(t, im.dir)
			st, _ := os.Stat(filepath.Join(im.dir, name))
			server.hold.Store(st.Size() / 2)
			p := newPod(t, httpEnv(server.URL+"/"+name))
			server.halfway = func() { waitForJournal(t, p, 1) }
			cmd := p.start(names.WorkerImport)
			select {
			case <-server.held:
			case <-time.After(30 * time.Second):
				t.Fatalf("the importer does not read on\n%s", p.log)
			}
			_ = cmd.Process.Kill()
			p.wait(cmd)
			safe := p.journal()
			before := server.sent.Load()
			server.hold.Store(0)
			msg := p.mustImport()
			p.sameDisk(im.raw)
			if !strings.Contains(p.log.String(), fmt.Sprintf("going on at byte %d\n", safe)) {
				t.Errorf("%s", p.log)
			}
			after := server.sent.Load() - before
			t.Logf("%d bytes were safe of %d that were sent, then %d more of %d", safe, before, after, st.Size())
			if after > st.Size()-safe+1<<20 {
				t.Errorf("%d bytes were sent from byte %d of %d on", after, safe, st.Size())
			}
			if want := "sha256:" + fileSum(t, filepath.Join(im.dir, name)); msg.Digest != want {
				t.Errorf("digest %s, want %s", msg.Digest, want)
			}
		})
	}
}

func fileSum(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	_, _ = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil))
}
