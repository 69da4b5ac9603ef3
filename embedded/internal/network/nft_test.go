package network

import (
	"os"
	"path/filepath"
	"testing"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/plan"
)

// The rules decide who reaches the API server and whether pods reach the world.
func TestRenderNft(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(*options.Options)
	}{
		{"closed", func(*options.Options) {}},
		{"exposed", func(o *options.Options) { o.Expose, o.Instance = true, "two-b" }},
		{"ipv4", func(o *options.Options) { o.PodCIDR6, o.ServiceCIDR6, o.NodeCIDR6 = "", "", "" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options.Default()
			tc.set(&o)
			c, err := plan.New(o)
			if err != nil {
				t.Fatal(err)
			}
			got := renderNft(o, c)
			path := filepath.Join("testdata", tc.name+".nft")
			if os.Getenv("UPDATE") != "" {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs; refresh it with UPDATE=1 if that is meant. Got:\n%s", path, got)
			}
		})
	}
}
