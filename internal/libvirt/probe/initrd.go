package probe

import (
	"encoding/binary"
	"fmt"
)

// TinyInitrd is a cpio archive with one program, a hundred bytes long, that prints Marker and powers the machine off.
func TinyInitrd() []byte {
	const directory, device, program = 0o040755, 0o020600, 0o100755
	var archive []byte
	archive = cpioEntry(archive, "dev", directory, [2]uint32{}, nil)
	archive = cpioEntry(archive, "dev/console", device, [2]uint32{5, 1}, nil)
	archive = cpioEntry(archive, "init", program, [2]uint32{}, tinyProgram("\n"+Marker+"\n"))
	return cpioEntry(archive, "TRAILER!!!", 0, [2]uint32{}, nil)
}

// cpioEntry appends a file in the kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
func cpioEntry(archive []byte, name string, mode uint32, device [2]uint32, content []byte) []byte {
	archive = fmt.Appendf(archive, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		len(archive), mode, 0, 0, 1, 0, len(content), 0, 0, device[0], device[1], len(name)+1, 0)
	archive = pad4(append(append(archive, name...), 0))
	return pad4(append(archive, content...))
}

func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// tinyProgram is a static x86-64 ELF executable: write(1, text), reboot(power off), and for ever pause().
func tinyProgram(text string) []byte {
	const base, headers = 0x400000, 64 + 56
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x48, 0x8d, 0x35, 0, 0, 0, 0, // lea rsi, [rip+text]
		0xba, 0, 0, 0, 0, // mov edx, length
		0x0f, 0x05, // syscall
		0xb8, 169, 0, 0, 0, // mov eax, 169 (reboot)
		0xbf, 0xad, 0xde, 0xe1, 0xfe, // mov edi, 0xfee1dead
		0xbe, 0x69, 0x19, 0x12, 0x28, // mov esi, 0x28121969
		0xba, 0xdc, 0xfe, 0x21, 0x43, // mov edx, 0x4321fedc (power off)
		0x0f, 0x05, // syscall
		0xb8, 34, 0, 0, 0, // mov eax, 34 (pause)
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp to the last mov
	}
	le := binary.LittleEndian
	le.PutUint32(code[13:], uint32(len(code)-17)) // from behind the lea to behind the code
	le.PutUint32(code[18:], uint32(len(text)))
	size := uint64(headers + len(code) + len(text))
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	elf = le.AppendUint16(elf, 2)  // executable
	elf = le.AppendUint16(elf, 62) // x86-64
	elf = le.AppendUint32(elf, 1)
	elf = le.AppendUint64(elf, base+headers) // entry
	elf = le.AppendUint64(elf, 64)           // program headers
	elf = le.AppendUint64(elf, 0)
	elf = le.AppendUint32(elf, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} {
		elf = le.AppendUint16(elf, v)
	}
	elf = le.AppendUint32(elf, 1) // load
	elf = le.AppendUint32(elf, 5) // read, execute
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		elf = le.AppendUint64(elf, v)
	}
	return append(append(elf, code...), text...)
}
