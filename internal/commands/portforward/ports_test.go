package portforward

import "testing"

// FuzzParsePort checks that whatever is typed is either refused or within the range of ports.
func FuzzParsePort(f *testing.F) {
	for _, seed := range []string{"80", "8080:80", "udp/53:53", "tcp/0:22", "sctp/1", ":", "99999", "-1:1", "1:2:3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePort(text)
		if err == nil && (p.remote == 0 || p.protocol != "tcp" && p.protocol != "udp") {
			t.Errorf("%q was read as %+v", text, p)
		}
	})
}
