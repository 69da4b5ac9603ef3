package probe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// `virtctl check --pre` reads the summary from a container's termination message, of which the kubelet keeps 4096 bytes.
func TestTheReportFitsATerminationMessage(t *testing.T) {
	for _, result := range []Result{
		{KVM: true, Machines: []string{"q35"}},
		{Reason: "there is no /dev/kvm"},
		{Reason: strings.Repeat("\x01", 10_000)},
	} {
		file := filepath.Join(t.TempDir(), "termination-log")
		if err := (Options{Report: file}).report(result); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var got Summary
		if err := json.Unmarshal(raw, &got); err != nil || len(raw) > 4096 || got.KVM != result.KVM || !strings.HasPrefix(result.Reason, got.Reason) {
			t.Errorf("%d bytes: %.100s, %v", len(raw), raw, err)
		}
	}
	if err := (Options{}).report(Result{}); err != nil {
		t.Errorf("nobody asked: %v", err)
	}
}
