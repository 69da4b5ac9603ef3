package stream

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"testing"

	"virtctl/internal/cdi/sparse/sparsetest"
)

// childDisk is set in the process whose memory is measured: it copies its standard input to the path.
const childDisk = "VIRTCTL_TEST_COPY_STDIN_TO"

func TestMain(m *testing.M) {
	if path := os.Getenv(childDisk); path != "" {
		os.Exit(copyStdin(path))
	}
	os.Exit(m.Run())
}

func copyStdin(path string) int {
	debug.SetMemoryLimit(MemoryLimit)
	ckpt := FileCheckpointer{Path: path + ".checkpoint"}
	if _, err := Copy(context.Background(), os.Stdin, path, Options{Checkpointer: ckpt, CheckpointInterval: 1}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("%s", status)
	return 0
}

// An importer pod is given little memory: no image may make it use more.
func TestMemory(t *testing.T) {
	// The dictionary of xz -9 alone has 64 MiB.
	const limit, limitXZ = 80 << 10, 96 << 10 // KiB
	disk := pattern(41, 40<<20)
	long := bytes.Repeat(disk[:512<<10], 140) // longer than the dictionary, and quickly compressed
	for name, src := range map[string][]byte{
		"raw":               disk,
		"without zeros":     sparsetest.Packed(t, append(bytes.Clone(disk), make([]byte, len(disk))...)),
		"qcow2 zlib":        makeImage(t, disk, "-c", "-O", "qcow2"),
		"qcow2 2M clusters": makeImage(t, disk, "-c", "-O", "qcow2", "-o", "cluster_size=2M"),
		"qcow2 zstd":        makeImage(t, disk, "-c", "-O", "qcow2", "-o", "compression_type=zstd,cluster_size=2M"),
		"vdi":               makeImage(t, disk, "-O", "vdi"),
		"xz":                compress(t, long, "xz", "-9", "--lzma2=preset=0,dict=64MiB"),
		"zstd":              zst(t, disk),
		"gzip":              compress(t, disk, "gzip", "-1"),
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childDisk+"="+filepath.Join(t.TempDir(), "disk.img"))
			cmd.Stdin, cmd.Stderr = bytes.NewReader(src), os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(out)
			if m == nil {
				t.Fatalf("no VmHWM in %q", out)
			}
			kib, _ := strconv.Atoi(string(m[1]))
			t.Logf("%d MiB", kib>>10)
			allowed := limit
			if name == "xz" {
				allowed = limitXZ
			}
			if kib > allowed {
				t.Errorf("%d MiB were used, more than %d", kib>>10, allowed>>10)
			}
		})
	}
}
