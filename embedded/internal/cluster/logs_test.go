package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

// A log that grows for ever fills the disk; a program keeps writing to the same one after it was set aside.
func TestTrimLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		if _, err := f.WriteString("0123456789"); err != nil {
			t.Fatal(err)
		}
		if err := trimLog(path, 10); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	old, err1 := os.ReadFile(path + ".1")
	present, err2 := os.ReadFile(path)
	if string(old) != "01234567890123456789" || string(present) != "new" {
		t.Errorf("%q, %q, %v, %v", old, present, err1, err2)
	}
}
