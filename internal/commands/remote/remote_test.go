package remote

import (
	"os/exec"
	"strings"
	"testing"
)

// FuzzQuote checks with a real shell that a quoted word arrives as it was: ssh gives the ProxyCommand to a shell.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"virtctl", "/a path/virtctl", "o'neil", "$(touch x)", "a;b", `\`, "a\tb", "*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if strings.ContainsAny(word, "\x00%") || word == "" {
			return
		}
		got, err := exec.Command("sh", "-c", "printf %s "+quote(word)).Output()
		if err != nil || string(got) != word {
			t.Errorf("%q arrived as %q, %v", word, got, err)
		}
	})
}

// ssh expands percent tokens in a ProxyCommand before the shell sees it.
func TestQuotePercent(t *testing.T) {
	if got := quote("100%"); got != "100%%" {
		t.Errorf("quoted as %s", got)
	}
}

// FuzzParseHost checks that no part of a host can become an option of ssh or an address of its own.
func FuzzParseHost(f *testing.F) {
	for _, seed := range []string{"alice@vm/web", "vmi/web/ns", "@vm/web", "vm/-oProxyCommand=x", "a@b@vm/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, err := ParseHost("default", text)
		if err == nil && (strings.HasPrefix(host.Alias(), "-") || strings.HasPrefix(host.UserOr("me"), "-")) {
			t.Errorf("%q gives host %q and user %q", text, host.Alias(), host.User)
		}
	})
}
