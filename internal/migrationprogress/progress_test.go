package migrationprogress

import (
	"strings"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	good := `{"migration":"u","phase":"precopy","processedBytes":5}`
	for text, want := range map[string]bool{
		good: true, "": false, "{": false, `{"migration":"other"}`: false, `{"migration":"u","phase":"` + strings.Repeat("x", maxLength) + `"}`: false,
	} {
		p := Of(map[string]string{Annotation: text}, "u")
		if (p != nil) != want {
			t.Errorf("%.50q: %+v", text, p)
		}
	}
}

func TestLeft(t *testing.T) {
	for _, c := range []struct {
		p    Progress
		want time.Duration
		ok   bool
	}{
		{Progress{RemainingBytes: 100, TransferRateBytes: 20, DirtyRateBytes: 10}, 10 * time.Second, true},
		{Progress{RemainingBytes: 100, TransferRateBytes: 10, DirtyRateBytes: 10}, 0, false},
		{Progress{}, 0, false},
		{Progress{RemainingBytes: 1 << 62, TransferRateBytes: 1}, (1 << 20) * time.Second, true},
	} {
		if left, ok := c.p.Left(); left != c.want || ok != c.ok {
			t.Errorf("%+v: %s, %v", c.p, left, ok)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add(`{"migration":"u","remainingBytes":1,"transferRateBytes":2}`)
	f.Fuzz(func(_ *testing.T, text string) {
		if p := Of(map[string]string{Annotation: text}, "u"); p != nil {
			p.Left()
		}
	})
}
