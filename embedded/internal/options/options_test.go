package options

import (
	"errors"
	"strings"
	"testing"
)

// A wrong setting must be refused by name, before anything is started.
func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(*Options)
		want string
	}{
		{"default", func(*Options) {}, ""},
		{"IPv4 only", func(o *Options) { o.PodCIDR6, o.ServiceCIDR6, o.NodeCIDR6 = "", "", "" }, ""},
		{"instance", func(o *Options) { o.Instance = "A b" }, "instance"},
		{"no nodes", func(o *Options) { o.Nodes = 0 }, "nodes 0"},
		{"too many nodes", func(o *Options) { o.Nodes = 100 }, "nodes 100"},
		{"bridge too long", func(o *Options) { o.Bridge = "averylongbridge" }, "bridge"},
		{"relative dir", func(o *Options) { o.StateDir = "state" }, "state-dir"},
		{"root dir", func(o *Options) { o.RunDir = "/" }, "run-dir"},
		{"port 0", func(o *Options) { o.APIServerPort = 0 }, "apiserver-port 0"},
		{"long run dir", func(o *Options) { o.RunDir = "/run/" + strings.Repeat("x", 80) }, "run-dir"},
		{"no cidr", func(o *Options) { o.PodCIDR = "10.244.0.0" }, "pod-cidr"},
		{"host bits", func(o *Options) { o.PodCIDR = "10.244.0.1/16" }, "pod-cidr"},
		{"too small", func(o *Options) { o.PodCIDR = "10.244.0.0/24" }, "/17"},
		{"wrong family", func(o *Options) { o.NodeCIDR = "fd00:1::/64" }, "node-cidr"},
		{"overlap", func(o *Options) { o.ServiceCIDR = "10.244.0.0/20" }, "overlaps"},
		{"half dual stack", func(o *Options) { o.PodCIDR6 = "" }, "all three"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := Default()
			tc.set(&o)
			err := o.Validate()
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// Every command after 'up' finds the cluster by its state directory.
func TestSaveLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, ErrNoCluster) {
		t.Fatalf("empty directory: %v", err)
	}
	o := Default()
	o.StateDir, o.Nodes = dir, 3
	if err := o.Save(); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil || got != o {
		t.Fatalf("loaded %+v, %v", got, err)
	}
	if l := o.HostLink("node42"); len(l) > 15 {
		t.Errorf("link name %s is too long", l)
	}
}
