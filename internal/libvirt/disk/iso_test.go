package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"virtctl/internal/libvirt/wire"
)

// A Secret with both of the keys that the contract knows makes one file; one with neither is refused by name.
func TestKeysOfASecret(t *testing.T) {
	dir := t.TempDir()
	files := func(keys ...string) []wire.ISOFile {
		var list []wire.ISOFile
		for _, k := range keys {
			list = append(list, wire.ISOFile{Path: "user-data", From: filepath.Join(dir, k), Optional: true, Needed: true})
		}
		return list
	}
	if _, err := listedFiles(files("userdata", "userData")); err == nil || !strings.Contains(err.Error(), "userdata, userData") {
		t.Errorf("neither key: %v", err)
	}
	for _, k := range []string{"userData", "userdata"} {
		if err := os.WriteFile(filepath.Join(dir, k), []byte(k), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := listedFiles(files("userdata", "userData"))
		if err != nil || len(got) != 1 || string(got[0].Content) != k {
			t.Errorf("with %s: %+v, %v", k, got, err)
		}
	}
}
