package hotplug

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kinds of devices as the kernel tells a program (BPF_DEVCG_DEV_*).
const (
	blockDevice = 1
	charDevice  = 2
)

// anyNumber stands for every number.
const anyNumber = -1

// rule allows one device everything.
type rule struct {
	kind         int32
	major, minor int64
}

func (r rule) compare(other rule) int {
	return cmp.Or(cmp.Compare(r.kind, other.kind), cmp.Compare(r.major, other.major), cmp.Compare(r.minor, other.minor))
}

// terminals have no fixed node: a container's own pseudo-terminals.
func terminals() []rule {
	return []rule{{charDevice, 5, 2}, {charDevice, 136, anyNumber}}
}

// Instructions of the kernel's virtual machine, as far as they are used here (linux/bpf.h).
const (
	loadWord  = 0x61 // dst = *(u32 *)(src + off)
	and32     = 0x54 // dst &= imm
	jumpIfNot = 0x55 // if dst != imm, skip off instructions
	move64    = 0xb7 // dst = imm
	leave     = 0x95
)

// instruction is one of them in the kernel's layout.
func instruction(code, dst, src byte, off int16, imm int32) []byte {
	b := make([]byte, 8)
	b[0], b[1] = code, dst|src<<4
	binary.NativeEndian.PutUint16(b[2:], uint16(off))
	binary.NativeEndian.PutUint32(b[4:], uint32(imm))
	return b
}

// program allows the devices of the rules and refuses every other. Its context holds kind and access, major, minor.
func program(rules []rule) []byte {
	var code []byte
	add := func(i ...[]byte) {
		for _, one := range i {
			code = append(code, one...)
		}
	}
	const result, context, kind, major, minor = 0, 1, 2, 3, 4
	add(
		instruction(loadWord, kind, context, 0, 0), instruction(and32, kind, 0, 0, 0xffff),
		instruction(loadWord, major, context, 4, 0), instruction(loadWord, minor, context, 8, 0),
	)
	for _, r := range rules {
		tests := [][2]int64{{kind, int64(r.kind)}}
		if r.major != anyNumber {
			tests = append(tests, [2]int64{major, r.major})
		}
		if r.minor != anyNumber {
			tests = append(tests, [2]int64{minor, r.minor})
		}
		for i, t := range tests {
			// Past the other tests and the two instructions that allow.
			add(instruction(jumpIfNot, byte(t[0]), 0, int16(len(tests)-i-1+2), int32(t[1])))
		}
		add(instruction(move64, result, 0, 0, 1), instruction(leave, 0, 0, 0, 0))
	}
	add(instruction(move64, result, 0, 0, 0), instruction(leave, 0, 0, 0, 0))
	return code
}

// errNoProgram means that nobody restricts the group's devices.
var errNoProgram = errors.New("no program")

// maxPrograms bounds how many programs one group may have; the kernel's own limit.
const maxPrograms = 64

// replacePrograms puts the program in the place of those that a group asks about devices. All of a group's programs must allow
// an access, so that adding one would not do. A group without any asks nobody, and stays so.
func replacePrograms(group int, code []byte) error {
	ids, flags, err := queryPrograms(group)
	if errors.Is(err, errNoProgram) {
		return nil
	}
	if err != nil {
		return err
	}
	fd, err := loadProgram(code)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i, id := range ids {
		old, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&struct{ id, next, flags uint32 }{id: id}), 12)
		if err != nil {
			return fmt.Errorf("open the control group's device program: %w", err)
		}
		if i == 0 {
			err = attachProgram(group, fd, old, flags)
		} else {
			err = detachProgram(group, old)
		}
		_ = unix.Close(old)
		if err != nil {
			return err
		}
	}
	return nil
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

func queryPrograms(group int) (ids []uint32, flags uint32, err error) {
	list := make([]uint32, maxPrograms)
	attr := struct {
		target, kind, queryFlags, attachFlags uint32
		ids                                   uint64
		count, _                              uint32
	}{
		target: uint32(group), kind: unix.BPF_CGROUP_DEVICE, ids: uint64(uintptr(unsafe.Pointer(&list[0]))), count: maxPrograms,
	}
	_, err = bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(list)
	if err != nil {
		return nil, 0, fmt.Errorf("ask for the control group's device programs: %w", err)
	}
	if attr.count == 0 {
		return nil, 0, errNoProgram
	}
	return list[:min(attr.count, maxPrograms)], attr.attachFlags, nil
}

func loadProgram(code []byte) (int, error) {
	licence := []byte("Apache-2.0\x00")
	attr := struct {
		kind, instructions uint32
		code, licence      uint64
		_                  [96]byte
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, instructions: uint32(len(code) / 8),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), licence: uint64(uintptr(unsafe.Pointer(&licence[0]))),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(code)
	runtime.KeepAlive(licence)
	if err != nil {
		return -1, fmt.Errorf("load a device program: %w", err)
	}
	return fd, nil
}

type attachment struct{ target, program, kind, flags, replace uint32 }

func attachProgram(group, program, old int, flags uint32) error {
	attr := attachment{uint32(group), uint32(program), unix.BPF_CGROUP_DEVICE, flags, 0}
	if flags&unix.BPF_F_ALLOW_MULTI != 0 {
		attr.flags |= unix.BPF_F_REPLACE
		attr.replace = uint32(old)
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("replace the control group's device program: %w", err)
	}
	return nil
}

func detachProgram(group, old int) error {
	attr := attachment{target: uint32(group), program: uint32(old), kind: unix.BPF_CGROUP_DEVICE}
	if _, err := bpf(unix.BPF_PROG_DETACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("take a device program from the control group: %w", err)
	}
	return nil
}
