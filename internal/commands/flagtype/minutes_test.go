package flagtype_test

import (
	"testing"
	"time"

	"virtctl/internal/commands/flagtype"
)

func TestMinutes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Minute, "0": 0, "20s": 20 * time.Second, "1m30s": 90 * time.Second, "-1": -1, "-2s": -1, "soon": -1, "": -1, "1.5": -1,
	} {
		var m flagtype.Minutes
		err := m.Set(text)
		if (err != nil) != (want < 0) || err == nil && time.Duration(m) != want {
			t.Errorf("%q was read as %s, %v", text, &m, err)
		}
	}
}
