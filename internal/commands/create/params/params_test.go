package params_test

import (
	"strings"
	"testing"

	"virtctl/internal/commands/create/params"
)

// FuzzParse checks that reading parameters never fails in another way than by an error, and keeps what was given.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"src:quay.io/a/b:c,name:x,bootorder:1", "src:", ":", ",", "a:b,a:c", "size:1Gi", "SRC: x "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := params.Parse("flag", text, "src", "name", "bootorder", "size")
		if err != nil {
			if !strings.HasPrefix(err.Error(), `failed to parse "--flag" flag: `) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if src := values.Get("src"); src != "" && !strings.Contains(text, src) {
			t.Errorf("%q was read as src %q", text, src)
		}
		if count, err := values.Count("bootorder"); err == nil && count != nil && *count == 0 {
			t.Errorf("%q was read as 0", text)
		}
		if size, err := values.Quantity("size"); err == nil && size != nil && size.Sign() <= 0 {
			t.Errorf("%q was read as size %s", text, size)
		}
	})
}

// FuzzSplitName checks that names never contain a slash and are never empty.
func FuzzSplitName(f *testing.F) {
	for _, seed := range []string{"a", "ns/a", "/", "a/", "/a", "a/b/c", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		namespace, name, err := params.SplitName(text)
		if err == nil && (name == "" || strings.Contains(name+namespace, "/")) {
			t.Errorf("%q was read as %q and %q", text, namespace, name)
		}
	})
}
