package render

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"virtctl/embedded/internal/options"
	"virtctl/embedded/internal/pki"
	"virtctl/embedded/internal/plan"
)

// golden compares with a file of testdata, or refreshes it when UPDATE is set.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; refresh it with UPDATE=1 if that is meant. Got:\n%s", path, got)
	}
}

func twoNodes(t *testing.T) (options.Options, plan.Cluster) {
	t.Helper()
	o := options.Default()
	o.Nodes = 2
	c, err := plan.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return o, c
}

// What a node's programs are told decides whether pods start at all: every change should be seen.
func TestNodeConfiguration(t *testing.T) {
	o, c := twoNodes(t)
	n := c.Nodes[1]
	must := func(data []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	golden(t, "kubelet.yaml", must(Kubelet(o, c, n)))
	golden(t, "kube-proxy.yaml", must(KubeProxy(c, n, "/kubeconfig", false)))
	golden(t, "cni.conflist", must(CNI(n)))
	golden(t, "containerd.toml", must(ContainerdConfig(Containerd{
		Runc: "/usr/sbin/runc", CNIBinDirs: []string{"/opt/cni/bin", "/bin"}, PauseImage: "localhost/pause:1", NoOOMScore: true,
	})))
	golden(t, "Corefile", Corefile(c, "/kubeconfig", "/resolv.conf"))
	golden(t, "resolv.conf", NodeResolvConf(c))
}

// A machine without resolvers, or with our own as the only one, must not make CoreDNS fail or ask itself for ever.
func TestNameservers(t *testing.T) {
	_, c := twoNodes(t)
	for _, tc := range []struct{ name, conf, want string }{
		{"empty", "", ""},
		{"two", "# by hand\nsearch example.org\nnameserver 192.0.2.1\nnameserver fd00::1\noptions edns0\n", "192.0.2.1 fd00::1"},
		{"ours", "nameserver 10.213.0.1\n", ""},
		{"broken", "nameserver\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := strings.Join(Nameservers(tc.conf, c), " "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if got := Corefile(c, "/kubeconfig", ""); bytes.Contains(got, []byte("forward")) {
		t.Errorf("forwards without resolvers:\n%s", got)
	}
}

func FuzzNameservers(f *testing.F) {
	f.Add("nameserver 192.0.2.1\n")
	c, err := plan.New(options.Default())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, conf string) {
		for _, s := range Nameservers(conf, c) {
			if s == "" || strings.ContainsAny(s, " \n") {
				t.Errorf("server %q", s)
			}
		}
	})
}

// Users copy the kubeconfig away: it must not refer to files, and its context has a fixed name.
func TestKubeconfig(t *testing.T) {
	_, c := twoNodes(t)
	s := pki.Store{Dir: t.TempDir()}
	if err := pki.EnsureCluster(s, c); err != nil {
		t.Fatal(err)
	}
	data, err := Kubeconfig("https://127.0.0.1:6443", ContextName("default"), pki.Admin, s)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte("current-context: virtctl-embedded\n")) || bytes.Contains(data, []byte(s.Dir)) {
		t.Errorf("kubeconfig:\n%s", data)
	}
	if got := ContextName("two"); got != "virtctl-embedded-two" {
		t.Errorf("context of another instance: %s", got)
	}
}
