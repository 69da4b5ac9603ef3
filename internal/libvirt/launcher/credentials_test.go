//go:build libvirt

package launcher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"virtctl/internal/libvirt/layout"
	"virtctl/internal/libvirt/wire"
)

// put swaps the files of a Secret as kubelet does.
func (p *pod) put(secret, version string, values map[string]string) {
	p.t.Helper()
	dir := p.path(layout.AccessCredential(secret))
	must(p.t, os.MkdirAll(filepath.Join(dir, version), 0o755))
	for name, value := range values {
		must(p.t, os.WriteFile(filepath.Join(dir, version, name), []byte(value), 0o644))
	}
	must(p.t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(p.t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
}

// Keys and passwords reach the users of a real guest through its real agent: when it comes, when a user comes later, and when the
// Secrets change while the guest runs.
func TestAccessCredentials(t *testing.T) {
	p := newPod(t, podOptions{})
	p.put("keys", "..1", map[string]string{"one": "ssh-ed25519 ONE one", "two": "# comment\nssh-ed25519 TWO two\n"})
	p.put("words", "..1", map[string]string{"late": "fresh-password"})
	w := p.watch()
	_, err := p.Prepare(p.context(), wire.PrepareRequest{})
	must(t, err)
	state, err := p.Start(p.context(), wire.StartRequest{XML: domainXML(""), GracePeriodSeconds: 60, Credentials: []wire.Credential{
		{Dir: layout.AccessCredential("keys"), Users: []string{"demo"}}, {Dir: layout.AccessCredential("words")},
	}})
	must(t, err)
	if c := state.Credentials; c == nil || c.Synchronized || c.Reason != wire.CredentialsNoAgent {
		t.Errorf("before the agent: %+v", c)
	}
	refused := w.next("a refusal", func(e wire.Event) bool {
		return e.State.Credentials != nil && e.State.Credentials.Reason == wire.CredentialsRefused
	})
	t.Logf("the agent's refusal: %s", refused.State.Credentials.Message)
	c := p.terminal()
	c.login()
	c.send(`cat ~demo/.ssh/authorized_keys; stat -c '%a %U' ~demo/.ssh/authorized_keys`)
	c.await("ssh-ed25519 ONE one")
	c.await("ssh-ed25519 TWO two")
	c.await("600 demo")

	c.send(`echo 'late:!:20000::::::' >> /etc/shadow; echo 'late:x:2000:2000::/:/bin/sh' >> /etc/passwd`)
	w.next("all given", func(e wire.Event) bool { return e.State.Credentials != nil && e.State.Credentials.Synchronized })
	c.send(`grep -c '^late:[$]' /etc/shadow | sed s/^/given=/`)
	c.await("given=1")

	p.put("keys", "..2", map[string]string{"one": "ssh-ed25519 THREE three"})
	c.send(`until grep -q THREE ~demo/.ssh/authorized_keys; do :; done; grep -c . ~demo/.ssh/authorized_keys | sed s/^/keys=/`)
	c.await("keys=1")
	for _, out := range []fmt.Stringer{p.stderr, p.stdout} {
		if strings.Contains(out.String(), "fresh-password") || strings.Contains(out.String(), "ZnJlc2gtcGFzc3dvcmQ") {
			t.Errorf("the password is in the pod's log:\n%s", out)
		}
	}
}
