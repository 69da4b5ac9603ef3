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
	number int
	// backing is the path of its file as the kernel tells it; for a device behind a device it may be another namespace's.
	backing string
	// under is the number of the loop device that this one sits on, or -1.
	under int
	// inode and on are the file behind it and the device that is on: they tell whether the number is still about the same volume.
	inode, on uint64
}

func (l loop) device() string { return "/dev/loop" + strconv.Itoa(l.number) }

// loopMajor is the major number of loop devices.
const loopMajor = 7

// list returns the attached loop devices of the machine.
func list() ([]loop, error) {
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var out []loop
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) { // detached meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list loop devices: %w", err)
		}
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(path))), "loop"))
		if err != nil {
			continue
		}
		l := loop{number: number, backing: strings.TrimSuffix(strings.TrimSpace(string(data)), " (deleted)")}
		if err := l.look(); errors.Is(err, unix.ENXIO) { // detached meanwhile
			continue
		} else if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// look finds out what a loop device sits on.
func (l *loop) look() error {
	f, err := os.Open(l.device())
	if err != nil {
		return fmt.Errorf("look at loop device: %w", err)
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return fmt.Errorf("look at loop device %s: %w", l.device(), err)
	}
	l.inode, l.on, l.under = info.Inode, info.Device, -1
	if unix.Major(info.Rdevice) == loopMajor {
		l.under = int(unix.Minor(info.Rdevice))
	}
	return nil
}

// below picks the devices whose file lies below dir, and after each those that sit on it: a kubelet puts one on every block volume
// in use, to hold it open.
func below(loops []loop, dir string) []loop {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	var out []loop
	for _, l := range loops {
		if l.under < 0 && strings.HasPrefix(l.backing, prefix) {
			out = append(out, l)
		}
	}
	for i := 0; i < len(out); i++ {
		for _, l := range loops {
			if l.under == out[i].number {
				out = append(out, l)
			}
		}
	}
	return out
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

// grow tells a loop device that its file has another size.
func grow(number int) error {
	f, err := os.OpenFile(loop{number: number}.device(), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("resize volume: %w", err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("resize volume: %w", err)
	}
	return nil
}

// detach frees a loop device; one that is still open somewhere goes when it is closed.
func detach(l loop) error {
	f, err := os.Open(l.device())
	if err != nil {
		return fmt.Errorf("detach volume: %w", err)
	}
	defer f.Close()
	// A kubelet may have freed it since it was listed, and the number may be another volume's by now.
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if errors.Is(err, unix.ENXIO) || err == nil && (info.Inode != l.inode || info.Device != l.on) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at loop device %s: %w", l.device(), err)
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach volume %s: %w", l.device(), err)
	}
	return nil
}

// DetachAll frees every loop device of the volumes in dir.
func DetachAll(dir string) error {
	loops, err := list()
	if err != nil {
		return err
	}
	ours := below(loops, dir)
	var errs []error
	for i := len(ours) - 1; i >= 0; i-- { // the upper ones first
		errs = append(errs, detach(ours[i]))
	}
	return errors.Join(errs...)
}
