package hotplug

import (
	"encoding/binary"
	"testing"
)

// run is the kernel's virtual machine, as far as the program uses it.
func run(t *testing.T, code []byte, access, major, minor uint32) int32 {
	t.Helper()
	context := make([]byte, 12)
	for i, v := range []uint32{access, major, minor} {
		binary.NativeEndian.PutUint32(context[4*i:], v)
	}
	var registers [11]uint64
	for pc, steps := 0, 0; steps < 10000; steps++ {
		i := code[pc*8 : pc*8+8]
		dst, src, off, imm := i[1]&15, i[1]>>4, int16(binary.NativeEndian.Uint16(i[2:])), int32(binary.NativeEndian.Uint32(i[4:]))
		pc++
		switch i[0] {
		case loadWord:
			if src != 1 {
				t.Fatalf("instruction %d loads from register %d", pc, src)
			}
			registers[dst] = uint64(binary.NativeEndian.Uint32(context[off:]))
		case and32:
			registers[dst] &= uint64(uint32(imm))
		case jumpIfNot:
			if registers[dst] != uint64(int64(imm)) {
				pc += int(off)
			}
		case move64:
			registers[dst] = uint64(int64(imm))
		case leave:
			return int32(registers[0])
		default:
			t.Fatalf("instruction %d is %#x", pc, i[0])
		}
	}
	t.Fatal("the program does not end")
	return 0
}

// A program that allows too much opens the node's disks to a guest; one that allows too little stops its own.
func TestProgram(t *testing.T) {
	code := program([]rule{{charDevice, 1, 3}, {charDevice, 136, anyNumber}, {blockDevice, 7, 5}})
	const read = 2 << 16
	for _, c := range []struct {
		kind, major, minor uint32
		want               int32
	}{
		{charDevice, 1, 3, 1},
		{charDevice, 1, 4, 0},
		{blockDevice, 1, 3, 0},
		{charDevice, 136, 9, 1},
		{blockDevice, 7, 5, 1},
		{blockDevice, 7, 6, 0},
		{blockDevice, 8, 5, 0},
		{charDevice, 7, 5, 0},
	} {
		if got := run(t, code, c.kind|read, c.major, c.minor); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if run(t, program(nil), charDevice|read, 1, 3) != 0 {
		t.Error("no rule allows something")
	}
}

func TestControlGroup(t *testing.T) {
	const old = "9:name=systemd:/x\n5:cpu,devices:/kubepods/pod1/c\n0::/unified\n"
	if g, ok := controlGroup(old, "devices"); !ok || g != "/kubepods/pod1/c" {
		t.Errorf("%q %v", g, ok)
	}
	if g, ok := controlGroup(old, ""); !ok || g != "/unified" {
		t.Errorf("%q %v", g, ok)
	}
	if g, ok := controlGroup("0::/../../etc\n", ""); !ok || g != "/etc" {
		t.Errorf("a path that climbs: %q %v", g, ok)
	}
	if _, ok := controlGroup("0::/x\n", "devices"); ok {
		t.Error("version 2 has no list of devices")
	}
}
