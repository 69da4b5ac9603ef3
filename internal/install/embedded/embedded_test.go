package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func config(name, server, user, token string) clientcmdapi.Config {
	c := clientcmdapi.NewConfig()
	c.Clusters[name] = &clientcmdapi.Cluster{Server: server}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	c.CurrentContext = name
	return *c
}

func write(t *testing.T, c clientcmdapi.Config, path string) {
	t.Helper()
	if err := clientcmd.WriteToFile(c, path); err != nil {
		t.Fatal(err)
	}
}

// The commands after `virtctl install --embedded` find the cluster without a word about it, whatever kubeconfig there was, and what was in
// it stays as it was, then and after the uninstall.
func TestPublishAndWithdraw(t *testing.T) {
	stale := clientcmdapi.NewConfig()
	stale.CurrentContext = Context
	theirs := config("work", "https://work.example", "admin", "theirs")
	for what, before := range map[string]*clientcmdapi.Config{"no kubeconfig": nil, "a user's own": &theirs, "a context that is gone": stale} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config")
			t.Setenv("KUBECONFIG", path)
			if before != nil {
				write(t, *before, path)
			}
			c := Cluster{StateDir: t.TempDir()}
			write(t, config("virtctl-embedded", "https://127.0.0.1:6443", "admin", "ours"), c.Kubeconfig())
			own, err := os.ReadFile(c.Kubeconfig())
			if err != nil {
				t.Fatal(err)
			}

			if err := c.Publish(); err != nil {
				t.Fatal(err)
			}
			server, token := reached(t, path, Context)
			if server != "https://127.0.0.1:6443" || token != "ours" {
				t.Errorf("the context leads to %q as %q", server, token)
			}
			current := Context
			if before == &theirs {
				current = "work"
				if server, token := reached(t, path, "work"); server != "https://work.example" || token != "theirs" {
					t.Errorf("the user's own context leads to %q as %q", server, token)
				}
			}
			if got := load(t, path).CurrentContext; got != current {
				t.Errorf("current context %q, want %q", got, current)
			}
			if now, err := os.ReadFile(c.Kubeconfig()); err != nil || !bytes.Equal(now, own) {
				t.Errorf("the cluster's own kubeconfig was written: %v\n%s", err, now)
			}

			if err := c.Withdraw(); err != nil {
				t.Fatal(err)
			}
			after := load(t, path)
			if len(after.Clusters) != len(after.Contexts) || len(after.AuthInfos) != len(after.Contexts) || after.Contexts[Context] != nil {
				t.Errorf("left behind: %+v", after)
			}
			if before == &theirs && (after.CurrentContext != "work" || after.AuthInfos["admin"].Token != "theirs") || before != &theirs && after.CurrentContext != "" {
				t.Errorf("after it: %+v", after)
			}
		})
	}
}

func load(t *testing.T, path string) *clientcmdapi.Config {
	t.Helper()
	c, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reached(t *testing.T, path, context string) (server, token string) {
	t.Helper()
	c, err := clientcmd.NewNonInteractiveClientConfig(*load(t, path), context, nil, nil).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	return c.Host, c.BearerToken
}
