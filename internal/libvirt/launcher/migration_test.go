//go:build libvirt

package launcher_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// forward does what two virt-handlers do: it listens in the source's pod and joins each connection to one of the target's.
func forward(t *testing.T, source *pod, path string, dial func(context.Context) (*os.File, error)) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: source.path(path), Net: "unix"})
	must(t, err)
	must(t, os.Chown(source.path(path), layout.UID, layout.UID))
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			from, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			to, err := dial(context.Background())
			if err != nil {
				fmt.Fprintln(source.stderr, "forward:", path, err)
				_ = from.Close()
				continue
			}
			conn, err := net.FileConn(to)
			_ = to.Close()
			if err != nil {
				_ = from.Close()
				continue
			}
			join(from, conn.(*net.UnixConn))
		}
	}()
}

func join(a, b *net.UnixConn) {
	for _, pair := range [][2]*net.UnixConn{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].CloseWrite()
		}()
	}
}

func forwardAll(t *testing.T, source, target *pod) wire.MigrateRequest {
	t.Helper()
	for path, kind := range map[string]string{layout.MigrationMemorySocket: "memory", layout.MigrationNBDSocket: "nbd"} {
		forward(t, source, path, func(ctx context.Context) (*os.File, error) {
			return target.MigrationPort(ctx, wire.MigrationPortRequest{Kind: kind})
		})
	}
	forward(t, source, layout.MigrationLibvirtSocket, target.Libvirt)
	return wire.MigrateRequest{
		LibvirtSocket: layout.MigrationLibvirtSocket, MemorySocket: layout.MigrationMemorySocket, NBDSocket: layout.MigrationNBDSocket,
		MaxDowntimeMillis: 500,
	}
}

func overlayXML(d wire.DiskFacts) string {
	return fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' error_policy='stop' discard='unmap'/>
<source file='%s'/><backingStore type='file'><format type='%s'/><source file='%s'/></backingStore><target dev='vda' bus='virtio'/><alias name='ua-root'/></disk>`,
		d.Path, d.BackingFormat, d.Backing)
}

// isoXML is an image of files on a bus that knows no read-only disks.
func isoXML(target string, d wire.DiskFacts) string {
	return fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' error_policy='stop'/><source file='%s'/>
<target dev='%s' bus='sata'/><alias name='ua-%[2]s'/></disk>`, d.Path, target)
}

// A guest moves with its memory, its clock and its pod-local disk, and goes on where it was. Images of files wait for it.
func TestMigration(t *testing.T) {
	options := podOptions{volumes: map[string][]byte{
		"kubevirt-image-volume/root/disk/disk.img": make([]byte, 64<<20),
		"kubevirt-private/cloud-init/ci/userdata":  []byte("#cloud-config\nhostname: web\n"),
	}}
	spec := wire.DiskSpec{Name: "root", Kind: wire.DiskImage, Source: layout.ImageVolume("root")}
	iso := wire.DiskSpec{
		Name: "ci", Kind: wire.DiskISO, Label: "cidata", Files: []wire.ISOFile{{Path: "user-data", From: filepath.Join(layout.CloudInit("ci"), "userdata")}},
		CloudInit: &wire.CloudInit{Type: "nocloud", InstanceID: "i-1", Hostname: "web"},
	}
	settings := wire.DiskSpec{
		Name: "cm", Kind: wire.DiskISO, Label: "cfgdata", Image: layout.ProjectedISO(layout.ConfigMap, "cm"),
		Files: []wire.ISOFile{{Path: "colour", Content: []byte("green")}},
	}
	source, target := newPod(t, options), newPod(t, options)
	prepared, err := source.Prepare(source.context(), wire.PrepareRequest{Disks: []wire.DiskSpec{spec, iso, settings}})
	must(t, err)
	xml := domainXML(overlayXML(prepared.Disks[0]) + isoXML("sda", prepared.Disks[1]) + isoXML("sdb", prepared.Disks[2]))
	source.start(xml, spec, iso, settings)
	c := source.terminal()
	c.login()
	c.send("echo written-before | dd of=/dev/vda bs=512 seek=100 conv=notrunc,fsync 2>/dev/null; (i=0; while :; do i=$((i+1)); echo $i > /tmp/count; usleep 10000; done) & date -s '2001-01-01 00:00:00' >/dev/null; echo rea''dy")
	c.await("ready")

	_, err = target.Prepare(target.context(), wire.PrepareRequest{Disks: []wire.DiskSpec{spec, iso, settings}, Incoming: true})
	must(t, err)
	arrival := target.watch()
	state, err := target.Start(target.context(), wire.StartRequest{Incoming: true, GracePeriodSeconds: 30})
	must(t, err)
	if !state.Incoming || state.State != wire.StateNone {
		t.Fatalf("the target: %+v", state)
	}
	departure := source.watch()
	departure.state(wire.StateRunning)
	request := forwardAll(t, source, target)
	request.Disks, request.Parallel, request.AutoConverge = []string{"vda"}, 2, true
	var last wire.MigrationProgress
	steps := 0
	began := time.Now()
	must(t, source.Migrate(source.context(), request, func(p wire.MigrationProgress) error { last = p; steps++; return nil }))
	t.Logf("migration took %s, downtime %d ms, %d MiB, %d reports", time.Since(began), last.DowntimeMillis, last.ProcessedBytes>>20, steps)
	if !last.Done || last.Failure != "" || last.ProcessedBytes == 0 || last.DowntimeMillis == 0 {
		t.Fatalf("the end: %+v", last)
	}
	if end := departure.state(wire.StateShutoff); end.Reason != wire.ReasonMigrated {
		t.Errorf("the source ended with %+v", end)
	}
	if state := arrival.state(wire.StateRunning); state.Incoming || state.Reason != wire.ReasonMigrated {
		t.Errorf("the target came up with %+v", state)
	}
	must(t, source.Quit(source.context()))
	if code := source.wait(); code != 0 {
		t.Errorf("the source's exit code: %d", code)
	}
	c = target.terminal()
	c.send("")
	c.await("# ")
	c.send("dd if=/dev/vda bs=512 skip=100 count=1 2>/dev/null | head -n1 | sed s/before/here/; a=$(cat /tmp/count); sleep 1; b=$(cat /tmp/count); [ $b -gt $a ] && echo still''-counting")
	c.await("written-here")
	c.await("still-counting")
	arrival.next("agent connected", func(e wire.Event) bool { return e.State.AgentConnected })
	if _, err := target.GuestInfo(target.context()); err != nil {
		t.Errorf("the agent after the migration: %v", err)
	}
	c.send("until [ $(date +%Y) -gt 2001 ]; do usleep 100000; done; echo on''-time")
	c.await("on-time")
}

// A migration that is aborted leaves the guest where it is.
func TestMigrationAborted(t *testing.T) {
	source, target := newPod(t, podOptions{}), newPod(t, podOptions{})
	source.start(domainXML(""))
	source.stdout.await(t, "demo guest: up")
	_, err := target.Prepare(target.context(), wire.PrepareRequest{Incoming: true})
	must(t, err)
	arrival := target.watch()
	request := forwardAll(t, source, target)
	request.BandwidthMiBps = 1
	var last wire.MigrationProgress
	aborted := false
	must(t, source.Migrate(source.context(), request, func(p wire.MigrationProgress) error {
		last = p
		if !aborted && p.ProcessedBytes > 0 {
			aborted = true
			return source.AbortMigration(source.context())
		}
		return nil
	}))
	if !last.Done || !last.Aborted || last.Failure == "" {
		t.Fatalf("the end: %+v", last)
	}
	state, err := source.State(source.context())
	if err != nil || state.State != wire.StateRunning {
		t.Fatalf("the guest: %+v, %v", state, err)
	}
	if end := arrival.state(wire.StateShutoff); !end.Incoming || end.Reason != wire.ReasonFailed {
		t.Errorf("the target: %+v", end)
	}
	if err := source.AbortMigration(source.context()); wire.CodeOf(err) != wire.CodeNotFound {
		t.Errorf("aborting nothing: %v", err)
	}
}
