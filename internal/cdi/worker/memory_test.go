package worker

import (
	"fmt"
	"testing"

	"virtctl/internal/cdi/names"
)

// maxMemory is docs/promises.md's bound for an importer, whatever the image.
const maxMemory = 80 << 20

func TestMemoryIsBounded(t *testing.T) {
	im := makeImages(t, 128, "qcow2", "qcow2z", "grown")
	compress(t, im.raw, "xz")
	compress(t, im.raw, "zst")
	server := serveFiles(t, im.dir)
	for _, name := range []string{"raw", "qcow2", "qcow2z", "grown", "raw.xz", "raw.zst"} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t, httpEnv(server.URL+"/disk."+name))
			p.mustImport()
			t.Logf("%d MiB", p.maxRSS>>20)
			if p.maxRSS > maxMemory {
				t.Errorf("%d MiB", p.maxRSS>>20)
			}
		})
	}
	cert, key := identity(t)
	target, address := uploadPod(t, cert, key)
	running := target.start(names.WorkerUploadServer)
	waitForPort(t, address)
	from := clonePod(t, fmt.Sprintf("https://%s", address), cert, key)
	from.env[names.EnvMountPoint] = im.raw
	if code, msg := from.run(names.WorkerCloneSource); code != 0 || msg.Fatal {
		t.Fatalf("exit %d, %s", code, msg.Text())
	}
	target.wait(running)
	t.Logf("clone source %d MiB, upload server %d MiB", from.maxRSS>>20, target.maxRSS>>20)
	if from.maxRSS > maxMemory || target.maxRSS > maxMemory {
		t.Errorf("clone source %d MiB, upload server %d MiB", from.maxRSS>>20, target.maxRSS>>20)
	}
}
