package footprint

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMappings(t *testing.T) {
	smaps := `00400000-00401000 r--p 00000000 fd:00 7 /usr/bin/program
Rss:   4 kB
Anonymous:             0 kB
00401000-00402000 r-xp 00001000 fd:00 7 /usr/bin/program
Anonymous:             4 kB
00402000-00403000 rw-p 00002000 fd:00 7 /usr/bin/program
Anonymous:             0 kB
00500000-00501000 r-xp 00000000 fd:00 8 /lib/other.so
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1000}}
	if d := cmp.Diff(want, mappings(strings.NewReader(smaps), "/usr/bin/program"), cmp.AllowUnexported(mapping{})); d != "" {
		t.Error(d)
	}
}

// The program must still work afterwards, with less.
func TestTrim(t *testing.T) {
	before := fileRSS(t)
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	after := fileRSS(t)
	if after >= before {
		t.Errorf("%d kB of the file were mapped before and %d kB after", before, after)
	}
}

func fileRSS(t *testing.T) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); fields[0] == "RssFile:" {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no RssFile")
	return 0
}
