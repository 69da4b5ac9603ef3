package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// loop is one attached loop device.
type loop struct {
	device  string
	backing string
}

// attached lists the loop devices whose file lies below dir.
func attached(dir string) ([]loop, error) {
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var out []loop
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // detached meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list loop devices: %w", err)
		}
		backing := strings.TrimSuffix(strings.TrimSpace(string(data)), " (deleted)")
		if strings.HasPrefix(backing, strings.TrimSuffix(dir, "/")+"/") {
			name := filepath.Base(filepath.Dir(filepath.Dir(path)))
			out = append(out, loop{"/dev/" + name, backing})
		}
	}
	return out, nil
}

// attachTries bounds the race for the next free device against other programs.
const attachTries = 32

// attach puts a file behind a loop device and returns the device's number.
func attach(path string) (int, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("attach volume: %w", err)
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("attach volume: %w; the kernel needs loop devices ('modprobe loop')", err)
	}
	defer control.Close()
	for range attachTries {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return 0, fmt.Errorf("attach volume: find a free loop device: %w", err)
		}
		err = configure(number, file)
		if err == nil {
			return number, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return 0, fmt.Errorf("attach volume to /dev/loop%d: %w", number, err)
		}
	}
	return 0, errors.New("attach volume: every free loop device was taken by somebody else; try again")
}

func configure(number int, file *os.File) error {
	device, err := os.OpenFile("/dev/loop"+strconv.Itoa(number), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file.Name())
	return unix.IoctlLoopConfigure(int(device.Fd()), &config)
}

// detach frees a loop device; one that is still open somewhere goes when it is closed.
func detach(device string) error {
	f, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("detach volume: %w", err)
	}
	defer f.Close()
	if _, err := unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach volume %s: %w", device, err)
	}
	return nil
}

// DetachAll frees every loop device of the volumes in dir.
func DetachAll(dir string) error {
	loops, err := attached(dir)
	errs := []error{err}
	for _, l := range loops {
		errs = append(errs, detach(l.device))
	}
	return errors.Join(errs...)
}
