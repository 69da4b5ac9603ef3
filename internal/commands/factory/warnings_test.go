package factory

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"virtctl/internal/commands/terminal"
)

// What the cluster warns of must reach who runs the command, as talk: once, and never among the data.
func TestWarningsAreTold(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Warning", `299 - "the machine cannot migrate"`)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := `{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"` + server.URL +
		`"}}],"contexts":[{"name":"c","context":{"cluster":"c"}}]}`
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	var out, talk strings.Builder
	f := New(&terminal.Streams{Out: &out, Err: &talk}, "virtctl", "virtctl")
	f.Connection.Bind(pflag.NewFlagSet("virtctl", pflag.ContinueOnError))
	c, err := f.Client()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.REST().Get().AbsPath("/version").Do(t.Context()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := talk.String(), "Warning: the machine cannot migrate\n"; got != want || out.Len() > 0 {
		t.Errorf("talk %q, want %q; data %q", got, want, out.String())
	}
}
