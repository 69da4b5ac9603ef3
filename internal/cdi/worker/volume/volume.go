// Package volume is the claim that a worker fills: where its disk is, how large it may be, and what is kept there to go on after a restart.
package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"

	"virtctl/internal/cdi/names"
)

const mib = 1 << 20

// Volume is a claim inside a worker's pod.
type Volume struct {
	// Dir is where a Filesystem claim is mounted; empty for Block.
	Dir string
	// Disk is the path of disk.img or of the device.
	Disk string
	// Scratch is the folder of the scratch claim; empty without one.
	Scratch string
	// StateDir keeps the journal: the claim itself, so that another pod finds it, or for Block the pod's own space.
	StateDir string
}

// Paths are the places that a pod's manifest uses; tests have others.
type Paths struct {
	Data, Device, Scratch, Temp string
}

// Standard is where the pods' manifests put things.
func Standard() Paths {
	return Paths{Data: names.DataDir, Device: names.BlockDevice, Scratch: names.ScratchDir, Temp: os.TempDir()}
}

// Find looks which kind of claim the pod has.
func (p Paths) Find() (Volume, error) {
	v := Volume{Dir: p.Data, Disk: filepath.Join(p.Data, names.DiskImage), StateDir: p.Data}
	if _, err := os.Stat(p.Device); err == nil {
		v = Volume{Disk: p.Device, StateDir: p.Temp}
	} else if st, err := os.Stat(p.Data); err != nil || !st.IsDir() {
		return Volume{}, fmt.Errorf("the pod has no claim: neither %s nor %s is there", p.Data, p.Device)
	}
	if st, err := os.Stat(p.Scratch); err == nil && st.IsDir() {
		v.Scratch = p.Scratch
	}
	return v, nil
}

// Block says that the claim is a device.
func (v Volume) Block() bool { return v.Dir == "" }

// Sizes are how large a disk may and shall be, in bytes.
type Sizes struct {
	// Available bounds the image's virtual size.
	Available int64
	// GrowTo is what the disk is made as large as; 0 leaves it at the image's size (a device has its own).
	GrowTo int64
}

// Sizes are those for a claim of this many bytes on a file system of which a part, as configured (overhead), is not for the disk.
//
// CDI takes the overhead from what is free, where the file system's own share is gone already: a claim that was made large enough for a disk
// turns out too small (kubevirt/containerized-data-importer#4024). Here an image may have what is really there, and the disk becomes
// as large as CDI makes it, or as the claim was made for.
func (v Volume) Sizes(request string, overhead float64) (Sizes, error) {
	wanted, err := ParseSize(request)
	if err != nil {
		return Sizes{}, err
	}
	if v.Block() {
		size, err := deviceSize(v.Disk)
		return Sizes{Available: size}, err
	}
	if overhead < 0 || overhead >= 1 {
		overhead = 0
	}
	room, err := v.room()
	if err != nil {
		return Sizes{}, err
	}
	s := sizes(room, wanted, overhead)
	if s.Available <= 0 {
		return Sizes{}, errors.New("the claim has no room for a disk: use a larger one")
	}
	return s, nil
}

// sector is the largest unit in which guests count a disk.
const sector = 4096

// sizes shares room out.
func sizes(room, wanted int64, overhead float64) Sizes {
	// A file system that is full to its last block has none for where a file's blocks are, nor for the journal beside it.
	s := Sizes{Available: (room - room/256 - mib) / mib * mib}
	if wanted <= 0 {
		return s
	}
	share := func(n int64) int64 { return int64(float64(n)/(1+overhead)) / mib * mib }
	whole := wanted - wanted%sector // guests do not see a part of one
	s.Available = min(s.Available, whole)
	s.GrowTo = max(min(whole, share(room)), min(share(wanted), s.Available))
	s.Available = max(s.Available, s.GrowTo)
	return s
}

// room is what is free, and what earlier tries left: that is written over.
func (v Volume) room() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(v.Dir, &st); err != nil {
		return 0, fmt.Errorf("look how much room %s has: %w", v.Dir, err)
	}
	room := int64(st.Bavail) * st.Bsize
	for _, file := range []string{v.Disk, v.SpoolFile()} {
		var f unix.Stat_t
		if err := unix.Lstat(file, &f); err == nil {
			room += f.Blocks * 512
		}
	}
	return room, nil
}

// SpoolFile is where an image is kept that cannot be written as it arrives: the scratch claim, or for want of one the claim itself.
func (v Volume) SpoolFile() string {
	const name = ".virtctl-spool"
	if v.Scratch != "" {
		return filepath.Join(v.Scratch, name)
	}
	if v.Block() {
		return ""
	}
	return filepath.Join(v.Dir, name)
}

// Free is how much room a folder has.
func Free(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}

// Clean removes what a failed work left: what is in the claim then looks like no disk.
func (v Volume) Clean() error {
	var errs []error
	if !v.Block() {
		errs = append(errs, remove(v.Disk))
	}
	if spool := v.SpoolFile(); spool != "" {
		errs = append(errs, remove(spool))
	}
	return errors.Join(append(errs, v.Journal().Remove())...)
}

func remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func deviceSize(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open the claim's device: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("measure the claim's device: %w", err)
	}
	return size, nil
}

// ParseSize reads a Kubernetes quantity in bytes; nothing is 0.
func ParseSize(text string) (int64, error) {
	if text = strings.TrimSpace(text); text == "" {
		return 0, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return 0, fmt.Errorf("%q is no size: use a number of bytes, with a suffix such as Gi", text)
	}
	return q.Value(), nil
}

// CanSpool says that an image of this size can be stored before it is converted: on the scratch claim, or beside the disk if there is room
// for both.
func (v Volume) CanSpool(size int64) bool {
	if v.Scratch != "" {
		return true
	}
	return v.Dir != "" && size > 0 && Free(v.Dir) >= 2*size
}
