package probe

import (
	"bytes"
	"context"
	"debug/elf"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	domainDocument = `<domainCapabilities><arch>x86_64</arch><cpu><mode name='host-model' supported='yes'><model fallback='forbid'>Skylake</model></mode>
<mode name='custom' supported='yes'><model usable='yes'>qemu64</model><model usable='no'>Denverton</model><model usable='yes'>Nehalem</model></mode></cpu></domainCapabilities>`
	hostDocument = `<capabilities><guest><arch name='i686'><machine>isapc</machine></arch></guest>
<guest><arch name='x86_64'><machine maxCpus='255'>pc-q35-10.0</machine><machine canonical='pc-q35-10.0'>q35</machine><machine>pc-q35-10.0</machine></arch></guest></capabilities>`
)

func TestLibvirtsDocumentsAreRead(t *testing.T) {
	var r Result
	if err := r.read(domainDocument, hostDocument); err != nil {
		t.Fatal(err)
	}
	if r.Arch != "x86_64" || !slices.Equal(r.Machines, []string{"pc-q35-10.0", "q35"}) || !slices.Equal(r.CPUModels, []string{"Nehalem", "qemu64"}) {
		t.Fatalf("%+v", r)
	}
	if err := r.read("<broken", hostDocument); err == nil {
		t.Error("a broken document was accepted")
	}
}

// A guest that hangs or dies must not count, and the reason must say which.
func TestOnlyAGuestThatRunsCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		output string
		close  bool
		want   string
	}{
		"runs":  {"Linux version 6\r\n" + Marker + "\r\n", false, ""},
		"hangs": {"early console\r\n", false, "did not get to its first program within 50ms; the last it said: \"early console\""},
		"dies":  {"qemu: failed to initialize kvm: x\n", true, "QEMU ended without running a guest; the last it said: \"qemu: failed to initialize kvm: x\""},
		"mute":  {"", true, "QEMU ended without running a guest"},
		"noisy": {strings.Repeat("x", 3*maxConsole), true, "QEMU ended"},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			go func() {
				_, _ = w.WriteString(tc.output)
				if tc.close {
					_ = w.Close()
				}
			}()
			err = awaitMarker(context.Background(), r, timeoutFor(tc.close, tc.want))
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			_ = w.Close()
		})
	}
}

func timeoutFor(closes bool, want string) time.Duration {
	if closes || want == "" {
		return 20 * time.Second
	}
	return 50 * time.Millisecond
}

// member returns a file of a cpio archive.
func member(t *testing.T, archive []byte, name string) []byte {
	t.Helper()
	for len(archive) > 110 {
		field := func(i int) int {
			n, err := strconv.ParseUint(string(archive[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		size, nameSize := field(6), field(11)
		start := (110 + nameSize + 3) / 4 * 4
		if string(archive[110:110+nameSize-1]) == name {
			return archive[start : start+size]
		}
		archive = archive[(start+size+3)/4*4:]
	}
	t.Fatalf("%s is not in the archive", name)
	return nil
}

func TestTheTinyGuestIsAProgramInAnArchive(t *testing.T) {
	content := member(t, TinyInitrd(), "init")
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC || len(f.Progs) != 1 || f.Entry != 0x400000+120 {
		t.Fatalf("%+v", f.FileHeader)
	}
	if !bytes.HasSuffix(content, []byte("\n"+Marker+"\n")) {
		t.Fatalf("the program ends in %q", content[max(0, len(content)-40):])
	}
	member(t, TinyInitrd(), "dev/console")
}
