package driver

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// attachTries bounds the race for the next free device against other programs.
const attachTries = 32

// loopMajor is the major number of loop devices.
const loopMajor = 7

// loops are the loop devices of volumes in use. Each goes by itself when the last who has it open closes it, so that none outlives
// its users, however they end.
type loops struct {
	mu   sync.Mutex
	open map[string]*os.File
}

func newLoops() *loops { return &loops{open: map[string]*os.File{}} }

// attach puts a file behind a loop device and gives the path of a device node for it. A pod's /dev knows only the devices that were there when
// it began, so the node is made beside the file.
func (l *loops) attach(id, path string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	node := path + ".device"
	if l.open[id] != nil {
		return node, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("%w; the kernel needs loop devices ('modprobe loop')", err)
	}
	defer control.Close()
	for range attachTries {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := configure(node, number, file)
		if errors.Is(err, unix.EBUSY) {
			continue // somebody else took it
		}
		if err != nil {
			return "", fmt.Errorf("attach loop device %d: %w", number, err)
		}
		l.open[id] = device
		return node, nil
	}
	return "", errors.New("every free loop device was taken by somebody else")
}

func configure(node string, number int, file *os.File) (*os.File, error) {
	if err := os.Remove(node); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil {
		return nil, fmt.Errorf("make device node %s: %w", node, err)
	}
	device, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return device, nil
}

// grow tells the device of a volume that is in use that its file has another size.
func (l *loops) grow(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	device := l.open[id]
	if device == nil {
		return nil
	}
	return unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY, 0)
}

// release lets go of a volume's device.
func (l *loops) release(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if device := l.open[id]; device != nil {
		_ = device.Close()
		delete(l.open, id)
	}
}
