package names

import (
	"strings"
	"testing"
)

// A worker's last words fit what kubelet keeps, whatever an image or a server made it say.
func TestTerminationFits(t *testing.T) {
	long, yes := strings.Repeat("é\"", 5000), true
	text, err := TerminationMessage{Message: &long, PreallocationApplied: &yes, Digest: "sha256:00"}.Encode()
	if err != nil || len(text) > MaxTermination {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	m := ParseTermination(string(text))
	if m.Digest != "sha256:00" || m.PreallocationApplied == nil || !strings.HasPrefix(m.Text(), "é\"") {
		t.Errorf("%+v", m)
	}
	labels := map[string]string{}
	for i := range 200 {
		labels[strings.Repeat("k", i)] = "value"
	}
	if text, err = (TerminationMessage{Labels: labels, Message: &long}).Encode(); err != nil || len(text) > MaxTermination {
		t.Errorf("many labels: %d bytes, %v", len(text), err)
	}
	if m := ParseTermination("panic: boom"); m.Text() != "panic: boom" || m.Fatal {
		t.Errorf("a crash: %+v", m)
	}
}

func FuzzParseTermination(f *testing.F) {
	f.Add(`{"message":"Import Complete","labels":{"a":"b"}}`)
	f.Add("panic")
	f.Fuzz(func(t *testing.T, text string) {
		m := ParseTermination(text)
		if out, err := m.Encode(); err == nil && len(out) > MaxTermination {
			t.Fatalf("%d bytes", len(out))
		}
	})
}
